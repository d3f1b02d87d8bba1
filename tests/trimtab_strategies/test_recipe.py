import pickle
import subprocess
import sys

import pytest

from trimtab_strategies import registry
from trimtab_strategies.base import Choice, active_choices, completed, default_choices
from trimtab_strategies.recipe import Step, describe, from_plain, stable_key, to_plain


def test_recipes_survive_plain_values():
    recipe = (Step.of("fisher", {"tuning": "none", "calibration": 256}),)
    assert from_plain(to_plain(recipe)) == recipe
    assert to_plain(recipe)[0]["choices"] == {"calibration": 256, "tuning": "none"}


def test_keys_do_not_depend_on_the_order_of_choices_or_the_process():
    key = stable_key({"b": 1, "a": [1.5, True]})
    assert key == stable_key({"a": [1.5, True], "b": 1})
    code = (
        "from trimtab_strategies.recipe import stable_key;"
        "print(stable_key({'a': [1.5, True], 'b': 1}))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == key
    assert key != stable_key({"a": [1.5, 1], "b": 1})


def test_inactive_choices_are_dropped_so_that_equal_work_has_one_name():
    fisher = registry.get("fisher")
    assert "ridge" in default_choices(fisher)
    quiet = active_choices(fisher, {**default_choices(fisher), "tuning": "none"})
    assert "ridge" not in quiet and "damping" not in quiet


def test_a_recipe_of_an_earlier_version_is_completed():
    fisher = registry.get("fisher")
    old = {"calibration": 512, "rearrange": False, "tuning": "scale", "damping": 2.0}
    now = completed(fisher, old)
    assert old.items() <= now.items() and completed(fisher, now) == now
    assert now["importance"] == "labels", "as it was, not as it is recommended now"
    assert now["head_weight"] == 1.0 and "ridge" not in now


def test_descriptions_are_short():
    step = Step.of("fisher", {"rearrange": True, "damping": 1.23456})
    assert describe(to_plain([step])) == "fisher(damping=1.23, rearrange=on)"
    assert describe([]) == "dense"


def test_a_choice_checks_itself():
    with pytest.raises(ValueError, match="default"):
        Choice("x", 3, "", values=(1, 2))
    with pytest.raises(ValueError, match="either values or"):
        Choice("x", 3, "")
    assert not Choice("x", 1, "", values=(1, 2)).admits(True)
    assert Choice("x", 1.0, "", low=0.1, high=2.0).admits(2)


def test_unknown_and_taken_names_are_refused():
    with pytest.raises(KeyError, match="there are: fisher"):
        registry.get("fischer")
    with pytest.raises(ValueError, match="registered already"):
        registry.register(registry.get("fisher"))


def test_declarations_are_free_of_torch():
    code = (
        "import sys; from trimtab_strategies import registry; registry.names(); "
        "print('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_measured_prices_are_not_told_on_a_line():
    step = {"strategy": "fisher", "choices": {"cost": "latency", "prices": "1/1/1", "ridge": 0.5}}
    assert describe([step]) == "fisher(cost=latency, ridge=0.5)"
    ltp = {"strategy": "ltp", "choices": {}}
    assert "prices" not in describe([step, ltp])


def test_equal_choices_are_kept_once_and_stay_of_their_type() -> None:
    steps = [Step.of("s", {"choice": value}) for value in (1, 1.0, True, "1", 1)]
    assert [type(step.choices[0][1]) for step in steps] == [int, float, bool, str, int]
    assert steps[0].choices[0] is steps[-1].choices[0]


def test_a_step_that_came_from_another_process_is_the_same_in_a_set():
    code = (
        "import pickle, sys; from trimtab_strategies.recipe import Step; "
        "step = Step.of('s', {'a': 'b'}); hash(step); "
        "sys.stdout.buffer.write(pickle.dumps(step))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert pickle.loads(out.stdout) in {Step.of("s", {"a": "b"})}
