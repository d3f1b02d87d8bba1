"""Starts a Ray of our own, or joins one that runs, and knows whether it is still there."""

from __future__ import annotations

import importlib
import logging
import math
import os
import secrets
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trimtab_workers.executors._base import ExecutorError
from trimtab_workers.executors._quiet_ray import ray

_log = logging.getLogger(__name__)

_CHECK_EVERY_S = 2.0
_KNOCK_S = 10.0
_CONNECT_TIMEOUT_S = 1.0
# A head of our own is not restarted by anybody. A cluster's may be, and Ray ends this process
# after 60 s without one, or what this says, so our own word has to come well before.
_RAYS_PATIENCE = "RAY_gcs_rpc_server_reconnect_timeout_s"
_OWN_PATIENCE_S = 2.0
_CLUSTER_PATIENCE_S = 30.0


class Cluster:
    """A connection with Ray.

    The caller's own connection is used if there is one; else the cluster at `address` is joined;
    else Ray is started for us alone ("embedded"). Embedded means: token authentication on, no
    dashboard, no usage statistics, nothing printed. Ray's processes end with the *thread* that
    starts them, so make it in one that lives long enough. When this process is killed, Ray's
    servers and workers end at once, and two idle helpers of Ray's within about a minute.

    Args:
        address: `auto`, `host:port`, `ray://host:port`, or None for an embedded Ray.
        n_cpus: CPUs that an embedded Ray is told to have, however many there are.

    Raises:
        ExecutorError: Ray cannot be started or reached.
    """

    def __init__(self, address: str | None, n_cpus: float) -> None:
        self.embedded = address is None and not ray.is_initialized()
        self._opened = not ray.is_initialized()
        self._name = address or "this machine"
        if self._opened:
            _init(address, n_cpus)
        self._servers = _server_addresses(address)
        self._patience_s = _OWN_PATIENCE_S if self.embedded else _cluster_patience_s()
        self._last_check = time.monotonic()
        self._silent_since: float | None = None

    def answers(self) -> bool:
        """Knocks at Ray's servers; while they are silent, many of Ray's calls block."""
        self._last_check = time.monotonic()
        if all(_answers(*server) for server in self._servers):
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = self._last_check
        return self._silent_since is None

    def is_silent(self) -> bool:
        """Tells whether the servers were silent lately; cheap, call it often."""
        if time.monotonic() - self._last_check >= _CHECK_EVERY_S:
            self.answers()
        return self._silent_since is not None

    def is_lost(self) -> bool:
        """Tells whether they have been silent for so long that nobody need wait for them."""
        since = self._silent_since
        return since is not None and time.monotonic() - since >= self._patience_s

    def resources(self) -> str:
        """Says in a few words what the cluster has, in all and free."""
        total, free = ray.cluster_resources(), ray.available_resources()
        parts = [
            f"{total.get(key, 0):g} {key}s ({free.get(key, 0):g} free)" for key in ("CPU", "GPU")
        ]
        return f"{self._name} has {' and '.join(parts)}"

    def n_gpus(self) -> float:
        """Counts the GPUs of all nodes."""
        return float(ray.cluster_resources().get("GPU", 0.0))

    def close(self) -> None:
        """Disconnects; ends Ray if it is ours; leaves a connection of the caller's alone."""
        if self._opened:
            self._opened = False
            ray.shutdown()


def _cluster_patience_s() -> float:
    rays = os.environ.get(_RAYS_PATIENCE, "")
    return int(rays) / 2 if rays.isdecimal() else _CLUSTER_PATIENCE_S


def _init(address: str | None, n_cpus: float) -> None:
    common: dict[str, Any] = {
        "namespace": f"trimtab-{uuid.uuid4().hex[:12]}",
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }
    with _own_sigterm_handler():
        try:
            _guard_token_file()
            if address is not None:
                _knock(address)
                ray.init(address=address, **common)
                return
            ray.init(address="local", num_cpus=math.ceil(n_cpus), include_dashboard=False, **common)
        except (
            ImportError,
            OSError,
            RuntimeError,
            ValueError,
            ray.exceptions.AuthenticationError,
        ) as error:
            raise ExecutorError(_cannot_start(address, error)) from error


def _knock(address: str) -> None:
    """Fails at once where Ray would try for minutes, or fail in a riddle."""
    if address.startswith("ray://"):
        importlib.import_module("grpc.aio")
    host, colon, port = address.rpartition(":")
    if colon and "/" not in host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()
        _show_token(address)


def _show_token(address: str) -> None:
    """Asks the head for anything: `ray.init` tries a wrong token for 20 s, and does not name it."""
    client = getattr(importlib.import_module("ray._raylet"), "GcsClient", None)
    try:
        # Not of Ray's public face; where it is gone or changed, `ray.init` finds out.
        if client is not None:
            client(address=address)
    except ray.exceptions.AuthenticationError:
        raise
    except Exception as error:
        _log.debug("asking the head at %s: %s", address, error)


def _cannot_start(address: str | None, error: Exception) -> str:
    if isinstance(error, ray.exceptions.AuthenticationError):
        return (
            f"the Ray cluster at {address!r} has another authentication token than this machine: "
            "copy its ~/.ray/auth_token here, or name a file that has it in RAY_AUTH_TOKEN_PATH"
        )
    said = str(error).strip().splitlines()
    cause = said[0] if said else type(error).__name__
    if address is None:
        return f"Ray could not be started on this machine: {cause}"
    hint = "check that it runs and that this machine has its authentication token"
    if address.startswith("ray://"):
        hint += '; ray:// needs the Ray client, pip install "ray[client]"'
    return f"no Ray cluster could be reached at {address!r}: {cause}; {hint}"


@contextmanager
def _own_sigterm_handler() -> Iterator[None]:
    """Keeps the caller's handler for SIGTERM, which `ray.init` replaces without asking."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        replaceable = callable(before) and threading.current_thread() is threading.main_thread()
        if replaceable:
            signal.signal(signal.SIGTERM, before)


def _guard_token_file() -> None:
    """Sees to it that the token can be read by its owner alone; Ray's own file is for everybody."""
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    path = Path.home() / ".ray" / "auth_token"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if path.stat().st_uid == os.getuid():
            path.chmod(0o600)
        return
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))


def _server_addresses(address: str | None) -> list[tuple[str, int]]:
    """Finds the two servers without which nothing works: the head's, and this node's own."""
    if address is not None and address.startswith("ray://"):
        return []  # Behind a proxy; the client notices by itself and raises ConnectionError.
    context = ray.get_runtime_context()
    host, _, port = context.gcs_address.rpartition(":")
    servers = [(host.strip("[]"), int(port))]
    for node in ray.nodes():
        if node["NodeID"] == context.get_node_id():
            servers.append((node["NodeManagerAddress"], int(node["NodeManagerPort"])))
    return servers


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=_CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True
