"""A Ray cluster of several nodes on this one machine, whose parts tests kill and start again.

The nodes are real: each has a raylet and workers of its own, and speaks with the others over
TCP and with a token. A process of its own keeps them (`python ray_cluster.py`), so that neither
Ray nor its settings get into the process of the tests.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

# The least that Ray takes; the default is a third of the machine's memory, for each node.
STORE_BYTES = 80 * 2**20


@dataclass(frozen=True)
class Node:
    """One node: Ray's name of it, and its raylet, which is the parent of its workers."""

    id: str
    raylet: psutil.Process


class RayCluster:
    """A head without CPUs, which drivers on this machine join, and the nodes that are added.

    What the head knows is on disk, so `kill_head` and `start_head` are what a supervisor does to
    a head that died. `environment` is for drivers; ``for_nodes`` is added for Ray's processes.
    """

    def __init__(self, **for_nodes: str) -> None:
        # Under /tmp, as the names of sockets must be short.
        self._folder = Path(tempfile.mkdtemp(prefix="rt-", dir="/tmp"))
        token = self._folder / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        (self._folder / "head").mkdir()
        self.environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self._for_nodes = {
            "RAY_TMPDIR": str(self._folder),
            "RAY_gcs_storage": "rocksdb",
            "RAY_gcs_storage_path": str(self._folder / "head"),
            "OMP_NUM_THREADS": "1",
            **for_nodes,
        }
        self._port = free_port()
        self.address = ""
        self.start_anew()

    def add(self, cpus: int, gpus: int = 0) -> Node:
        """Adds a node, and waits until the head knows it."""
        said = self._ask("add", **_node(cpus, gpus))
        return Node(said["id"], psutil.Process(said["pid"]))

    def kill_node(self, node: Node) -> None:
        """Kills all processes of a node at once, as when its power is cut."""
        _kill_family(node.raylet)

    def kill_head(self) -> None:
        """Kills the process that knows everything; the nodes go on without it for a while."""
        self._ask("kill_head")

    def start_head(self) -> None:
        """Starts it again, with what it knew."""
        self._ask("start_head")

    def lose_all(self) -> None:
        """Kills the head and every node, and forgets all."""
        _kill_family(psutil.Process(self._keeper.pid))
        self._keeper.communicate()
        shutil.rmtree(self._folder / "head")
        (self._folder / "head").mkdir()

    def start_anew(self) -> None:
        """Starts the head, or a new one at the address of the one that was lost."""
        self._keeper = self._start_keeper()
        head = {"gcs_server_port": self._port, "include_dashboard": False, "no_monitor": True}
        self.address = self._ask("add", **_node(0, 0), **head)["address"]

    def close(self) -> None:
        """Kills what is left, and removes the files."""
        if self._keeper.poll() is None:
            self.lose_all()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _start_keeper(self) -> subprocess.Popen[str]:
        with (self._folder / "said").open("a") as said:
            return subprocess.Popen(
                [sys.executable, __file__],
                env={**os.environ, **self.environment, **self._for_nodes},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                start_new_session=True,
            )

    def _ask(self, name: str, **arguments: Any) -> Any:
        assert self._keeper.stdin is not None and self._keeper.stdout is not None
        self._keeper.stdin.write(json.dumps([name, arguments]) + "\n")
        self._keeper.stdin.flush()
        # Ray itself prints to stdout, too.
        for line in self._keeper.stdout:
            if line.startswith('{"done"'):
                return json.loads(line)["done"]
        raise AssertionError((self._folder / "said").read_text()[-3000:])


def _node(cpus: int, gpus: int) -> dict[str, Any]:
    wanted = {"num_cpus": cpus, "num_gpus": gpus, "include_log_monitor": False}
    return {**wanted, "object_store_memory": STORE_BYTES}


def free_port() -> int:
    """Finds a port that Ray does not keep for its workers."""
    while True:
        with socket.socket() as probe:
            probe.bind(("", 0))
            port = int(probe.getsockname()[1])
        if not 10002 <= port <= 19999:
            return port


def _kill_family(process: psutil.Process) -> None:
    family = [process, *process.children(recursive=True)]
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    # Not `psutil.wait_procs`, which waits for the keeper to collect its dead.
    end = time.monotonic() + 30
    while any(map(_lives, family)):
        assert time.monotonic() < end, f"killed, but still there: {family}"
        time.sleep(0.02)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def keep() -> None:
    """Does what comes in, line by line; ends, with all nodes, when nothing comes any more."""
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    for line in sys.stdin:
        name, arguments = json.loads(line)
        done: dict[str, Any] = {}
        if name == "add":
            node = cluster.add_node(**arguments)
            (raylet,) = node.all_processes["raylet"]
            done = {"id": node.node_id, "pid": raylet.process.pid, "address": cluster.address}
        elif name == "kill_head":
            cluster.head_node.kill_gcs_server()
        elif name == "start_head":
            cluster.head_node.start_gcs_server()
        print(json.dumps({"done": done}), flush=True)


if __name__ == "__main__":
    keep()
