"""What takes a Ray of its own: how it starts, and what is left when it or its driver ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

PRELUDE = """
import json, logging, os, signal, sys, time
from dataclasses import dataclass
from trimtab_workers.executors import ExecutorError, make_executor

@dataclass(frozen=True)
class Spin:
    def run(self, context):
        context.report("spinning", 0, 1)
        while True:
            pass

@dataclass(frozen=True)
class Value:
    value: object
    seconds: float = 0
    def run(self, context):
        time.sleep(self.seconds)
        return self.value

@dataclass(frozen=True)
class Hog:
    gigabytes: float
    def run(self, context):
        blocks = []
        while len(blocks) < self.gigabytes * 20:
            blocks.append(b"x" * (50 << 20))
            time.sleep(0.02)

def say(**words):
    print(json.dumps(words), flush=True)

def start(count, address=None):
    return make_executor(
        "ray", count=count, gpus_each=0, device="cpu", address=address
    )

def wait_all(executor, n):
    outcomes = {}
    while len(outcomes) < n:
        for outcome in executor.wait(1):
            outcomes[outcome.ticket] = outcome
    return outcomes

def reason(outcome):
    return outcome.failure.reason if outcome.failure else "value"

def wait_running(executor, n):
    while len(executor.progress()) < n:
        assert executor.wait(0.1) == []
"""

SPINNING = (
    PRELUDE
    + """
def own(signum, frame):
    pass

signal.signal(signal.SIGTERM, own)
with start(2) as executor:
    for _ in range(2):
        executor.submit(Spin())
    wait_running(executor, 2)
    for pid in executor.worker_pids():
        os.kill(pid, 9)
    first = [reason(outcome) for outcome in wait_all(executor, 2).values()]
    for _ in range(2):
        executor.submit(Spin())
    wait_running(executor, 2)
    handler_is_kept = signal.getsignal(signal.SIGTERM) is own
    say(workers=executor.worker_pids(), first=first, handler_is_kept=handler_is_kept)
    executor.wait(600)
"""
)


def test_the_face_of_the_package_is_light() -> None:
    code = (
        "import sys, trimtab_workers.executors as e; "
        "e.make_executor('inline', count=1, gpus_each=0, device='cpu', address=None); "
        "print([m for m in ('ray', 'torch', 'numpy') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout.strip(), result.stderr) == ("[]", "")


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_behind_and_nothing_on_the_terminal(
    start_script: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    driver = start_script(SPINNING, HOME=str(tmp_path))
    assert driver.stdout is not None
    said = json.loads(driver.stdout.readline())
    assert said["first"] == ["crashed", "crashed"] and said["handler_is_kept"]
    family = psutil.Process(driver.pid).children(recursive=True)
    assert set(said["workers"]) <= {p.pid for p in family}

    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does it
    start = time.monotonic()
    stdout, stderr = driver.communicate(timeout=90)

    assert time.monotonic() - start < 10
    assert psutil.wait_procs(family, timeout=60)[1] == []
    assert stdout == ""
    assert stderr.startswith("Traceback") and stderr.endswith("KeyboardInterrupt\n"), stderr
    token = tmp_path / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o777 == 0o600 and len(token.read_text()) >= 32


@pytest.mark.slow
def test_killing_the_driver_ends_ray_and_its_workers(
    start_script: Callable[..., subprocess.Popen[str]],
) -> None:
    driver = start_script(SPINNING)
    assert driver.stdout is not None
    json.loads(driver.stdout.readline())
    family = psutil.Process(driver.pid).children(recursive=True)
    # Two idle helpers of Ray's look for their server for a minute before they end.
    helpers = [
        p for p in family if p.cmdline()[0] in ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
    ]
    assert len(helpers) == 2

    driver.kill()

    try:
        assert psutil.wait_procs(set(family) - set(helpers), timeout=60)[1] == []
    finally:
        for helper in helpers:
            helper.kill()


@pytest.mark.slow
def test_a_lost_head_costs_the_running_jobs_and_ray_starts_again(
    start_script: Callable[..., subprocess.Popen[str]],
) -> None:
    code = (
        PRELUDE
        + """
import psutil
with start(1) as executor:
    executor.submit(Spin()), executor.submit(Value("queued"))
    wait_running(executor, 1)
    old = executor.worker_pids()
    for process in psutil.Process().children():
        if process.name() == "gcs_server":
            process.kill()
    outcomes = wait_all(executor, 2)
    say(first=outcomes[1].failure.reason, text=outcomes[1].failure.message,
        second=outcomes[2].value, replaced=old != executor.worker_pids(),
        old_is_gone=not psutil.pid_exists(old[0]))
"""
    )
    stdout, _ = start_script(code).communicate(timeout=90)
    assert json.loads(stdout) == {
        "first": "crashed",
        "text": "Ray's head process was lost while the job ran",
        "second": "queued",
        "replaced": True,
        "old_is_gone": True,
    }


@pytest.mark.slow
def test_a_job_that_eats_the_memory_is_told_from_a_crash(
    start_script: Callable[..., subprocess.Popen[str]],
) -> None:
    memory = psutil.virtual_memory()
    limit = (memory.total - memory.available + 1e9) / memory.total
    code = (
        PRELUDE
        + """
with start(1) as executor:
    executor.submit(Hog(4)), executor.submit(Value("after"))
    outcomes = wait_all(executor, 2)
    failure = outcomes[1].failure
    say(first=failure.reason, text=failure.message, doubt=failure.is_in_doubt,
        second=outcomes[2].value)
"""
    )
    driver = start_script(code, RAY_memory_usage_threshold=str(limit))
    stdout, stderr = driver.communicate(timeout=90)
    assert stdout, stderr
    said = json.loads(stdout)
    assert (said["first"], said["second"]) == ("oom_host", "after")
    assert not said["doubt"], "it was alone"
    assert "memory" in said["text"] and "\n" not in said["text"]


@pytest.mark.slow
def test_who_is_killed_beside_one_that_eats_the_memory_may_be_tried_again(
    start_script: Callable[..., subprocess.Popen[str]],
) -> None:
    """Whoever Ray chooses, the neighbour comes through, and the hog fails."""
    memory = psutil.virtual_memory()
    limit = (memory.total - memory.available + 1.5e9) / memory.total
    code = (
        PRELUDE
        + """
jobs = {"neighbour": Value("well", 8.0), "hog": Hog(5)}
tries, ends = dict.fromkeys(jobs, 0), {}
with start(2) as executor:
    out = {executor.submit(job): name for name, job in jobs.items()}
    while out:
        for outcome in executor.wait(1):
            name, failure = out.pop(outcome.ticket), outcome.failure
            tries[name] += 1
            if failure and failure.is_in_doubt and tries[name] < 3:
                out[executor.submit(jobs[name])] = name
            else:
                ends[name] = failure.reason if failure else outcome.value
say(ends=ends, tries=tries)
"""
    )
    driver = start_script(code, RAY_memory_usage_threshold=str(limit))
    stdout, stderr = driver.communicate(timeout=90)
    assert stdout, stderr
    said = json.loads(stdout)
    assert said["ends"] == {"neighbour": "well", "hog": "oom_host"}, said


@pytest.fixture
def cluster() -> Iterator[str]:
    """The address of a Ray cluster with two CPUs that somebody else started."""
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="rt-", dir="/tmp") as folder:
        command = [
            *[str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"],
            *[f"--port={port}", "--node-ip-address=127.0.0.1", f"--temp-dir={folder}"],
            *["--num-cpus=2", "--num-gpus=0", "--include-dashboard=false"],
        ]
        environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
        head = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            _wait_for_port(port, head)
            yield f"127.0.0.1:{port}"
        finally:
            family = psutil.Process(head.pid).children(recursive=True)
            for process in [head, *family]:
                process.kill()
            head.wait()
            psutil.wait_procs(family, timeout=5)


@pytest.mark.slow
def test_a_running_cluster_is_joined_and_left_as_it_was(
    start_script: Callable[..., subprocess.Popen[str]], cluster: str
) -> None:
    code = (
        PRELUDE
        + """
import trimtab_workers.executors._ray as module
logging.basicConfig(format="%(message)s")
module._START_PATIENCE_S = 8
address = sys.argv[1]
for turn in range(2):  # the second finds the room that the first left
    with start(2, address) as executor:
        executor.submit(Value("here"))
        say(value=wait_all(executor, 1)[1].value)
with start(3, address) as executor:  # one more than fits
    for seconds in [9, 9, 0, 0, 0, 0]:  # longer than the third is waited for
        executor.submit(Value("here", seconds=seconds))
    say(values=len(wait_all(executor, 6)), workers=len(executor.worker_pids()))
    try:
        with start(1, address) as second:
            second.submit(Value("never"))
            wait_all(second, 1)
    except ExecutorError as error:
        say(text=str(error))
"""
    )
    driver = start_script(code, cluster)
    stdout, stderr = driver.communicate(timeout=90)
    said = [json.loads(line) for line in stdout.splitlines()]
    assert said[:2] == [{"value": "here"}] * 2, stderr
    assert said[2] == {"values": 6, "workers": 2}
    wanted = "were asked for, but 127.0.0.1"
    assert wanted in said[3]["text"] and "has 2 CPUs (0 free)" in said[3]["text"]
    assert stderr.count("\n") == 1 and "going on with 2; the others join when they can" in stderr
    assert stderr.startswith("3 workers with 1 CPUs and 0 GPUs each were asked for")


@pytest.mark.slow
def test_a_cluster_that_is_lost_is_an_error_and_no_hang(
    start_script: Callable[..., subprocess.Popen[str]], cluster: str, until: Callable[..., None]
) -> None:
    code = (
        PRELUDE
        + """
import trimtab_workers.executors._cluster as module
module._CLUSTER_PATIENCE_S = 3
executor = start(1, sys.argv[1])
executor.submit(Spin()), executor.submit(Value("queued"))
wait_running(executor, 1)
say(pids=executor.worker_pids())
for _ in range(2):
    try:
        say(outcomes=len(wait_all(executor, 2)))
    except ExecutorError as error:
        say(kind=type(error).__name__, text=str(error))
executor.close()
"""
    )
    driver = start_script(code, cluster)
    assert driver.stdout is not None
    (pid,) = json.loads(driver.stdout.readline())["pids"]
    (head,) = [
        process
        for process in psutil.process_iter(["name", "cmdline"])
        if process.info["name"] == "gcs_server"
        and any(cluster.rpartition(":")[2] in word for word in process.info["cmdline"])
    ]
    head.kill()
    stdout, stderr = driver.communicate(timeout=90)
    said = [json.loads(line) for line in stdout.splitlines()]
    assert [words.get("kind") for words in said] == ["ExecutorLostError"] * 2, stderr
    assert all("does not answer any more; start again" in words["text"] for words in said)
    until(lambda: not psutil.pid_exists(pid), "the spinning worker is gone", 5)


def test_a_cluster_that_is_not_there_is_named(
    start_script: Callable[..., subprocess.Popen[str]],
) -> None:
    code = (
        PRELUDE
        + """
try:
    start(1, sys.argv[1])
except ExecutorError as error:
    say(text=str(error))
"""
    )
    address = f"127.0.0.1:{_free_port()}"
    stdout, stderr = start_script(code, address).communicate(timeout=90)
    assert stdout, stderr
    text = json.loads(stdout.splitlines()[-1])["text"]
    assert text.startswith(f"no Ray cluster could be reached at {address!r}: ")
    assert "Connection refused" in text and stderr == ""


def _free_port() -> int:
    """Finds a port that Ray does not keep for its workers."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if not 10002 <= port <= 19999:
            return port


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        assert process.poll() is None, "ray start ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("the cluster did not come up")
