import pytest
import torch

from trimtab_workers.devices import pick_device
from trimtab_workers.errors import WorkerInputError


def pretend(monkeypatch, *, cuda=0, mps=False):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("machine", "best"),
    [
        ({}, "cpu"),
        ({"mps": True}, "mps"),
        ({"cuda": 1}, "cuda"),
        ({"cuda": 1, "mps": True}, "cuda"),
    ],
)
def test_auto_takes_the_best_there_is(monkeypatch, machine, best):
    pretend(monkeypatch, **machine)
    assert pick_device("auto") == torch.device(best)


def test_devices_that_are_there_are_given(monkeypatch):
    pretend(monkeypatch, cuda=2, mps=True)
    for name in ("cpu", "cuda", "cuda:0", "cuda:1", "mps"):
        assert pick_device(name) == torch.device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:2", "mps"])
def test_devices_that_are_not_there_are_refused(monkeypatch, name):
    pretend(monkeypatch, cuda=1 if ":" in name else 0)
    with pytest.raises(WorkerInputError, match=f"'{name}' was asked for, but .* use device: auto"):
        pick_device(name)


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "meta", "xla"])
def test_other_names_are_refused(name):
    with pytest.raises(WorkerInputError, match="must be auto, cpu, cuda, cuda:N or mps"):
        pick_device(name)
