import pickle

import pytest

from trimtab_workers.errors import DataError, ModelError, WorkerInputError
from trimtab_workers.task import DataSource, Finetune, Task


def test_task_is_equal_and_hashable_after_pickling():
    task = Task(
        DataSource(path="/a.csv"), DataSource(dataset="o/n"), ("t",), "y", "f1", 128, 3, True
    )
    again = pickle.loads(pickle.dumps(task))
    assert again == task
    assert hash(again) == hash(task)


def test_finetune_defaults():
    assert Finetune() == Finetune(epochs=2, lr=5e-5, batch_size=32)


@pytest.mark.parametrize("fields", [{}, {"path": "/a.csv", "dataset": "o/n"}])
def test_source_needs_exactly_one_place(fields):
    with pytest.raises(DataError, match="exactly one of a file path and a dataset"):
        DataSource(**fields)


def test_source_is_shown_with_what_narrows_it():
    assert str(DataSource(dataset="o/n", config="sst2", split="train")) == "o/n:sst2:train"
    assert str(DataSource(path="/a.csv")) == "/a.csv"


def test_errors_are_value_errors_of_one_tree():
    for error in (DataError, ModelError):
        assert issubclass(error, WorkerInputError)
        assert issubclass(error, ValueError)


def test_task_module_imports_nothing_heavy():
    import subprocess
    import sys

    code = (
        "import sys, trimtab_workers.task, trimtab_workers.errors; "
        "print([m for m in ('torch','transformers','datasets','pandas','numpy','sklearn')"
        " if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
