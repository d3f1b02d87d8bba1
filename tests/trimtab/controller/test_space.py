from __future__ import annotations

import json
from typing import Any

import optuna
import pytest
from optuna.samplers import RandomSampler

from trimtab.controller._space import RecipeSpace
from trimtab_strategies import registry
from trimtab_strategies.base import Choice, Strategy
from trimtab_strategies.recipe import Recipe, Step, from_plain, to_plain


def drawn(space: RecipeSpace, n: int) -> list[Recipe]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=RandomSampler(seed=n))
    return [space.draw(study.ask()) for _ in range(n)]


def choices_of(recipes: list[Recipe]) -> list[dict[str, Any]]:
    return [step.choices_dict for (step,) in recipes]


def test_anchor_is_the_recommended_recipe() -> None:
    (anchor,) = RecipeSpace({"fisher": {}}, 5000).anchors()
    recommended = {
        "calibration": 2048,
        "importance": "predictions",
        "cost": "flops",
        "head_weight": 1.0,
        "rearrange": True,
        "tuning": "projection",
        "ridge": 0.01,
        "remeasure": False,
    }
    assert anchor == (Step.of("fisher", recommended),)


def test_pins_are_kept_by_anchor_and_draws() -> None:
    space = RecipeSpace({"fisher": {"calibration": (512,), "tuning": ("none",)}}, 5000)
    for choices in choices_of([*space.anchors(), *drawn(space, 30)]):
        assert (choices["calibration"], choices["tuning"]) == (512, "none")
    pins = {"calibration": (256, 1024), "damping": (0.1, 2.0), "ridge": (0.1, 0.5)}
    narrowed = RecipeSpace({"fisher": pins}, 5000)
    found = choices_of(drawn(narrowed, 60))
    assert {choices["calibration"] for choices in found} == {256, 1024}
    assert {choices["damping"] for choices in found if "damping" in choices} == {0.1, 2.0}
    assert {choices["ridge"] for choices in found if "ridge" in choices} == {0.1, 0.5}
    (anchor,) = choices_of(narrowed.anchors())
    assert (anchor["calibration"], anchor["ridge"]) == (1024, 0.1)
    scaled = RecipeSpace({"fisher": {**pins, "tuning": ("scale",)}}, 5000)
    (anchor,) = choices_of(scaled.anchors())
    assert (anchor["calibration"], anchor["damping"]) == (1024, 0.1)
    either = RecipeSpace({"fisher": {"tuning": ("scale", "none")}}, 5000)
    assert choices_of(either.anchors())[0]["tuning"] == "scale", "the first that was named"


def test_time_is_counted_in_only_where_it_is_budgeted() -> None:
    def costs(space: RecipeSpace) -> set[Any]:
        return {choices["cost"] for choices in choices_of([*space.anchors(), *drawn(space, 40)])}

    assert costs(RecipeSpace({"fisher": {}}, 5000)) == {"flops"}
    both = RecipeSpace({"fisher": {}}, 5000, timed=True)
    assert costs(both) == {"flops", "latency"}
    assert [choices["cost"] for choices in choices_of(both.anchors())] == ["flops", "latency"]
    pinned = RecipeSpace({"fisher": {"cost": ("latency",)}}, 5000, timed=True)
    assert costs(pinned) == {"latency"}


@pytest.mark.parametrize(
    ("n_train", "expected"),
    [
        (10, {256}),
        (256, {256}),
        (257, {256, 512}),
        (600, {256, 512, 1024}),
        (9000, {256, 512, 1024, 2048}),
    ],
)
def test_calibration_stops_at_the_first_size_that_takes_all_rows(
    n_train: int, expected: set[int]
) -> None:
    space = RecipeSpace({"fisher": {}}, n_train)
    assert {choices["calibration"] for choices in choices_of(drawn(space, 80))} == expected
    assert space.anchors()[0][0].choices_dict["calibration"] == max(expected)


def test_choices_of_one_tuning_are_drawn_only_with_it() -> None:
    found = choices_of(drawn(RecipeSpace({"fisher": {}}, 5000), 80))
    of_one = ("ridge", "remeasure", "damping")
    assert {(c["tuning"], *(name for name in of_one if name in c)) for c in found} == {
        ("projection", "ridge", "remeasure"),
        ("scale", "damping"),
        ("none",),
    }
    assert all(0.01 <= c["damping"] <= 100 for c in found if "damping" in c)
    assert all(1e-4 <= c["ridge"] <= 1 for c in found if "ridge" in c)


def test_kinds_of_values_survive_tables() -> None:
    for recipe in drawn(RecipeSpace({"fisher": {}}, 5000), 40):
        back = from_plain(json.loads(json.dumps(to_plain(recipe))))
        assert back == recipe
        for (name, value), (_, again) in zip(recipe[0].choices, back[0].choices, strict=True):
            assert type(again) is type(value), name
        assert isinstance(back[0].choices_dict["rearrange"], bool)


def test_what_was_drawn_is_told_as_what_was_drawn() -> None:
    space = RecipeSpace({"fisher": {}}, 5000)
    study = optuna.create_study(sampler=RandomSampler(seed=1))
    for _ in range(20):
        trial = study.ask()
        told = space.parameters(space.draw(trial))
        assert told is not None
        assert {name: value for name, (value, _) in told.items()} == trial.params
        assert {name: kind for name, (_, kind) in told.items()} == trial.distributions


UNTUNED = {
    "calibration": 256,
    "importance": "labels",
    "cost": "flops",
    "head_weight": 2.0,
    "rearrange": True,
    "tuning": "none",
}


@pytest.mark.parametrize(
    "changes",
    [
        {"calibration": 300},
        {"importance": "gradients"},
        {"head_weight": 11.0},
        {"rearrange": 1},
        {"colour": "red"},
        {"cost": "latency"},
        {"tuning": "scale", "damping": 1e9},
        {"tuning": "projection", "ridge": 0.0, "remeasure": False},
    ],
)
def test_recipe_from_elsewhere_is_not_told(changes: dict[str, Any]) -> None:
    space = RecipeSpace({"fisher": {}}, 5000)
    assert space.parameters((Step.of("fisher", UNTUNED),)) is not None
    assert space.parameters((Step.of("fisher", {**UNTUNED, **changes}),)) is None
    assert space.parameters((Step.of("unknown", {}),)) is None
    assert space.parameters(()) is None


class Shrink(Strategy):
    """A second strategy, with one choice whose name the first has too."""

    name, version, summary = "shrink", 1, "for tests"
    choices = (Choice("tuning", "a", "how", values=("a", "b")),)
    slot = "units"

    def reach(self, shape, histogram):  # type: ignore[no-untyped-def]
        raise AssertionError("not asked here")

    def apply(self, *arguments):  # type: ignore[no-untyped-def]
        raise AssertionError("not asked here")


def test_several_strategies_share_one_space(monkeypatch: pytest.MonkeyPatch) -> None:
    strategies = {"fisher": registry.get("fisher"), "shrink": Shrink()}
    monkeypatch.setattr(registry, "_STRATEGIES", strategies)
    space = RecipeSpace({"fisher": {}, "shrink": {}}, 5000)
    assert [recipe[0].strategy for recipe in space.anchors()] == ["fisher", "shrink"]
    found = drawn(space, 60)
    assert {recipe[0].strategy for recipe in found} == {"fisher", "shrink"}
    assert {step.choices_dict["tuning"] for (step,) in found if step.strategy == "shrink"} == {
        "a",
        "b",
    }
    for recipe in found:
        told = space.parameters(recipe)
        assert told is not None and told["strategy"][0] == recipe[0].strategy


def test_combinations_take_one_strategy_for_each_thing_that_goes() -> None:
    space = RecipeSpace(dict.fromkeys(reversed(registry.names()), {}), 5000)
    anchors = [tuple(step.strategy for step in recipe) for recipe in space.anchors()]
    assert anchors[:2] == [("early_exit",), ("fisher",)], "as the spec has them"
    assert anchors[2:4] == [("ltp",), ("fisher", "early_exit")], "what hardly trains is first"
    assert anchors[4:6] == [("fisher", "ltp", "early_exit"), ("ltp", "early_exit")], "so made"
    assert anchors[6:9] == [("fisher", "ltp"), ("acc",), ("ltp",)], "the others as in the spec"
    assert anchors[9:11] == [("fisher", "acc", "early_exit"), ("fisher", "ltp", "early_exit")]
    assert anchors[11:13] == [("acc", "early_exit"), ("ltp", "early_exit")], "and so with pairs"
    assert len(set(anchors)) == 11 and len(set(space.anchors())) == 15
    assert ("fisher", "ltp", "early_exit") in anchors and ("ltp", "acc") not in anchors
    found = drawn(space, 200)
    assert {tuple(step.strategy for step in recipe) for recipe in found} == set(anchors)
    for recipe in [*found, *space.anchors()]:
        told = space.parameters(recipe)
        assert told is not None and told["strategy"][0] == "+".join(s.strategy for s in recipe)
        constraint = recipe[0].choices_dict.get("constraint")
        is_first_of_more = recipe[0].strategy == "fisher" and len(recipe) > 1
        assert (constraint is not None) == is_first_of_more
        assert all(0.2 < step.choices_dict.get("constraint", 0.5) < 0.9 for step in recipe)


@pytest.mark.parametrize(
    ("pins", "expected"),
    [
        ({}, ["manual", "learned"]),
        ({"thresholds": ("manual", "hard_only")}, ["manual"]),
        ({"thresholds": ("learned", "hard_only")}, ["learned"]),
        ({"thresholds": ("manual",)}, ["manual"]),
    ],
)
def test_thresholds_that_cost_no_training_are_tried_early(
    pins: dict[str, Any], expected: list[str]
) -> None:
    space = RecipeSpace({"ltp": pins}, 5000)
    found = choices_of(space.anchors())
    assert [choices["thresholds"] for choices in found] == expected
    assert all(space.parameters(recipe) is not None for recipe in space.anchors())
    for choices in found:
        assert ("lambda" in choices) == (choices["thresholds"] == "learned")


def test_combinations_that_are_left_out_are_neither_tried_nor_told() -> None:
    pins: dict[str, Any] = dict.fromkeys(registry.names(), {})
    left_out = [("acc",), ("ltp", "early_exit")]
    space = RecipeSpace(pins, 5000, left_out)
    for recipe in [*drawn(space, 200), *space.anchors()]:
        assert tuple(step.strategy for step in recipe) not in left_out
    for recipe in RecipeSpace(pins, 5000).anchors():
        is_left_out = tuple(step.strategy for step in recipe) in left_out
        assert (space.parameters(recipe) is None) == is_left_out


def test_recipes_of_another_form_are_not_told_to_the_sampler() -> None:
    space = RecipeSpace(dict.fromkeys(registry.names(), {}), 5000)
    by_names = {tuple(s.strategy for s in recipe): recipe for recipe in space.anchors()}
    fisher, exits = by_names[("fisher", "early_exit")]
    assert space.parameters((fisher, exits)) is not None
    assert space.parameters((exits, fisher)) is None
    assert space.parameters((fisher,)) is None, "alone it is made at many costs"
    assert space.parameters((fisher.with_choices(constraint=0.123), exits)) is None
    assert space.parameters((by_names[("fisher",)][0], exits)) is None
