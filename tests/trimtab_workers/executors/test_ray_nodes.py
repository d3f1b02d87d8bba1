"""A cluster of several nodes: what is lost with one of them, or with its head, and what is not."""

from __future__ import annotations

import importlib.util
import json
import pickle
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

Start = Callable[..., subprocess.Popen[str]]

PRELUDE = """
import json, os, sys, time
from dataclasses import dataclass
from trimtab_workers.errors import DataError
from trimtab_workers.executors import ExecutorError, make_executor
from trimtab_workers.executors import _cluster

# Workers have another working directory.
GO, NEVER = os.path.abspath("go"), os.path.abspath("never")

@dataclass(frozen=True)
class Here:
    "Says which node it is on, and what GPU it has; waits for a file, if one is named."
    file: str = ""
    def run(self, context):
        import ray
        here = ray.get_runtime_context().get_node_id(), os.environ.get("CUDA_VISIBLE_DEVICES")
        context.report(json.dumps(here), 0, 1)
        while self.file and not os.path.exists(self.file):
            time.sleep(0.02)
        return here

@dataclass(frozen=True)
class Read:
    path: str
    def run(self, context):
        raise DataError(f"{self.path}: there is no such file")

def say(**words):
    print(json.dumps(words), flush=True)

def start(count, **options):
    options = {"gpus_each": 0, **options}
    return make_executor("ray", count=count, device="cpu", address=sys.argv[1], **options)

def wait_all(executor, tickets):
    outcomes = {}
    while not set(tickets) <= set(outcomes):
        outcomes.update({outcome.ticket: outcome for outcome in executor.wait(1)})
    return [outcomes[ticket] for ticket in tickets]

def wait_running(executor, n):
    "Gives the nodes of jobs by ticket, when so many run."
    while len(executor.progress()) < n:
        assert executor.wait(0.1) == []
    return {t: json.loads(p.stage)[0] for t, p in executor.progress().items()}
"""


def _module() -> Any:
    path = Path(__file__).with_name("ray_cluster.py")
    spec = importlib.util.spec_from_file_location("ray_cluster", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules["ray_cluster"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    # A dead node is known as such after five checks that nobody answers.
    with _module().RayCluster(RAY_health_check_period_ms="500") as started:
        yield started


def heard(driver: subprocess.Popen[str]) -> dict[str, Any]:
    """Gives the next thing that a driver says."""
    assert driver.stdout is not None
    line = driver.stdout.readline()
    assert line, driver.stderr and driver.stderr.read()
    said: dict[str, Any] = json.loads(line)
    return said


def test_a_node_that_is_killed_costs_its_jobs_and_another_takes_its_place(
    start_script: Start, cluster: Any, rng: random.Random
) -> None:
    code = (
        PRELUDE
        + """
with start(4) as executor:
    first = [executor.submit(Here(GO)) for _ in range(4)]
    nodes = wait_running(executor, 4)
    say(nodes=[nodes[t] for t in first])
    outcomes = {}
    while len(outcomes) < 2:
        outcomes.update({outcome.ticket: outcome for outcome in executor.wait(1)})
    crashed = [o.failure and [o.failure.reason, o.failure.message] for o in outcomes.values()]
    say(tickets=[first.index(t) for t in outcomes], crashed=crashed)
    open(GO, "w").close()
    rest = wait_all(executor, [t for t in first if t not in outcomes])
    say(rest=[outcome.value[0] for outcome in rest])
    more = wait_all(executor, [executor.submit(Here()) for _ in range(6)])
    say(more=[outcome.value[0] for outcome in more])
    for _ in range(4):
        executor.submit(Here(NEVER))
    say(at_last=list(wait_running(executor, 4).values()))
"""
    )
    nodes = [cluster.add(2), cluster.add(2)]
    driver = start_script(code, cluster.address, **cluster.environment)
    where = heard(driver)["nodes"]
    assert sorted(where) == sorted([node.id for node in nodes] * 2)

    rng.shuffle(nodes)
    victim, survivor = nodes
    cluster.kill_node(victim)

    said = heard(driver)
    assert {where[i] for i in said["tickets"]} == {victim.id}
    for reason, message in said["crashed"]:
        assert reason == "crashed" and "\n" not in message
        assert "died while it ran the job" in message and "the loss of its node" in message
    assert heard(driver)["rest"] == [survivor.id] * 2
    assert heard(driver)["more"] == [survivor.id] * 6
    added = cluster.add(2)
    assert sorted(heard(driver)["at_last"]) == sorted([survivor.id, added.id] * 2)
    assert driver.wait(60) == 0
    for node in (survivor, added):
        cluster.kill_node(node)


def test_a_head_that_comes_back_costs_nothing(start_script: Start, cluster: Any) -> None:
    code = (
        PRELUDE
        + """
with start(2, gpus_each=0.5) as executor:
    first = [executor.submit(Here(GO)) for _ in range(3)]
    wait_running(executor, 2)
    say(running=True)
    while not executor._cluster.is_silent():
        assert executor.wait(0.1) == []
    say(silent=True)
    while executor._cluster.is_silent():
        assert executor.wait(0.1) == []
    open(GO, "w").close()
    say(values=len([o.value[0] for o in wait_all(executor, first)]))
    # The new head can start workers, too.
    victims = [executor.submit(Here(NEVER)) for _ in range(2)]
    wait_running(executor, 2)
    for pid in executor.worker_pids():
        os.kill(pid, 9)
    say(reasons=[outcome.failure.reason for outcome in wait_all(executor, victims)])
    last = wait_all(executor, [executor.submit(Here()) for _ in range(2)])
    say(last=[o.value[1] for o in last])
"""
    )
    node = cluster.add(2, gpus=1)
    driver = start_script(code, cluster.address, **cluster.environment)
    assert heard(driver) == {"running": True}
    cluster.kill_head()
    assert heard(driver) == {"silent": True}
    cluster.start_head()
    assert heard(driver) == {"values": 3}
    assert heard(driver) == {"reasons": ["crashed", "crashed"]}
    assert heard(driver) == {"last": ["0", "0"]}
    assert driver.wait(60) == 0
    cluster.kill_node(node)


def test_workers_share_gpus_by_halves(start_script: Start, cluster: Any) -> None:
    code = (
        PRELUDE
        + """
with start(4, gpus_each=0.5, cpus_each=0.25) as executor:
    tickets = [executor.submit(Here(GO)) for _ in range(5)]
    wait_running(executor, 4)
    say(pids=len(set(executor.worker_pids())))
    open(GO, "w").close()
    say(gpus=[outcome.value[1] for outcome in wait_all(executor, tickets)][:4])
"""
    )
    node = cluster.add(1, gpus=2)
    driver = start_script(code, cluster.address, **cluster.environment)
    assert heard(driver) == {"pids": 4}
    assert sorted(heard(driver)["gpus"]) == ["0", "0", "1", "1"]
    assert driver.wait(60) == 0
    cluster.kill_node(node)


def test_data_is_read_once_for_all_workers_and_the_baseline_once_by_each(
    start_script: Start, cluster: Any, tmp_path: Path, saved_models: Any, toy_task: Any
) -> None:
    code = (
        PRELUDE
        + """
import pickle
from pathlib import Path
from types import SimpleNamespace
from trimtab_workers.jobs import BaselineJob, MeasureJob, Place, SurveyJob
from trimtab_workers.task import Finetune

@dataclass(frozen=True)
class Files:
    root: Path
    def save(self, key, write):
        self.path(key).mkdir()
        write(self.path(key))
        return SimpleNamespace(path=key, sha256="", size_bytes=0)
    def path(self, key):
        return self.root / key

@dataclass(frozen=True)
class Counted:
    "Runs a job, and gives how often its worker has loaded anything so far."
    job: object
    def run(self, context):
        import trimtab_workers.data as data
        import trimtab_workers.jobs._place as place
        loads = context.cache.setdefault("loads", [])
        if not loads:
            loads.append("patched")
            for module, name in ((data, "load_task_data"), (place, "load_elastic")):
                def load(*args, real=getattr(module, name), name=name):
                    loads.append(name)
                    return real(*args)
                setattr(module, name, load)
        self.job.run(context)
        return os.getpid(), sorted(loads[1:])

task, model = pickle.loads(Path("task").read_bytes())
place = Place(task, model, Files(Path.cwd()))
finetune = Finetune(epochs=1, lr=0.01, batch_size=8)
first = [SurveyJob(place), BaselineJob(place, "dense", finetune)]
measure = [MeasureJob(place, "dense", split) for split in ("search", "certify") * 4]
loads, until = {}, time.monotonic() + 60
with start(2) as executor:
    jobs = first[:1]
    while sum("load_elastic" in own for own in loads.values()) < 2 and time.monotonic() < until:
        for outcome in wait_all(executor, [executor.submit(Counted(job)) for job in jobs]):
            if outcome.failure:
                say(failed=outcome.failure.detail)
            pid, loaded = outcome.value
            loads[pid] = loaded
        first = first[1:]
        jobs = first or measure
    say(workers=len(loads), loads=sorted(sum(loads.values(), [])))
"""
    )
    (tmp_path / "task").write_bytes(pickle.dumps((toy_task(), str(saved_models["bert-head"]))))
    nodes = [cluster.add(1), cluster.add(1)]
    driver = start_script(code, cluster.address, **cluster.environment)
    loads = ["load_elastic", "load_elastic", "load_task_data"]
    assert heard(driver) == {"workers": 2, "loads": loads}
    assert driver.wait(60) == 0
    for node in nodes:
        cluster.kill_node(node)


def test_what_another_node_does_not_see_is_named_with_it(start_script: Start, cluster: Any) -> None:
    # This path means another folder in each process, as one that is not shared does on each node.
    code = (
        PRELUDE
        + """
here = "/proc/self/cwd"
with start(1) as executor:
    (outcome,) = wait_all(executor, [executor.submit(Read(f"{here}/train.tsv"))])
    say(reason=outcome.failure.reason, text=outcome.failure.message)
with start(1, shared=[os.path.abspath("seen")]) as executor:
    say(values=len(wait_all(executor, [executor.submit(Here())])))
with start(1, shared=["seen", f"{here}/unseen"]) as executor:
    for _ in range(2):
        try:
            wait_all(executor, [executor.submit(Here())])
        except ExecutorError as error:
            say(text=str(error))
"""
    )
    node = cluster.add(1)
    driver = start_script(code, cluster.address, **cluster.environment)
    said = heard(driver)
    assert said["reason"] == "input"
    assert said["text"].startswith("/proc/self/cwd/train.tsv: there is no such file (seen on node ")
    assert said["text"].endswith("must be at paths that every node sees)")
    assert heard(driver) == {"values": 1}
    for _ in range(2):
        text = heard(driver)["text"]
        assert text.startswith("/proc/self/cwd/unseen must be a folder that every node")
        assert "does not: keep it on storage that all nodes mount" in text and "\n" not in text
    assert driver.wait(60) == 0
    cluster.kill_node(node)


def test_a_wrong_token_is_named(start_script: Start, cluster: Any) -> None:
    code = (
        PRELUDE
        + """
try:
    start(1)
except ExecutorError as error:
    say(text=str(error))
"""
    )
    environment = {**cluster.environment, "RAY_AUTH_TOKEN": "0" * 64}
    text = heard(start_script(code, cluster.address, **environment))["text"]
    assert text.startswith(f"the Ray cluster at {cluster.address!r} has another authentication")
    assert "copy its ~/.ray/auth_token here" in text and "\n" not in text


def test_a_cluster_that_is_lost_is_followed_by_a_new_one(
    start_script: Start, cluster: Any, tmp_path: Path
) -> None:
    code = (
        PRELUDE
        + """
_cluster._CLUSTER_PATIENCE_S = 1
executor = start(1)
executor.submit(Here(NEVER)), executor.submit(Here())
wait_running(executor, 1)
say(running=True)
for _ in range(2):
    try:
        while True:
            assert executor.wait(1) == [], "nobody is to blame"
    except ExecutorError as error:
        say(kind=type(error).__name__, text=str(error))
executor.close()
say(closed=True)
while not os.path.exists("anew"):
    time.sleep(0.1)
with start(1) as executor:
    say(values=len(wait_all(executor, [executor.submit(Here())])))
"""
    )
    cluster.add(1)
    driver = start_script(code, cluster.address, **cluster.environment)
    assert heard(driver) == {"running": True}
    cluster.lose_all()
    for _ in range(2):
        said = heard(driver)
        assert said["kind"] == "ExecutorLostError" and "start again when it is back" in said["text"]
    assert heard(driver) == {"closed": True}
    cluster.start_anew()
    cluster.add(1)
    (tmp_path / "anew").touch()
    assert heard(driver) == {"values": 1}
    assert driver.wait(60) == 0
