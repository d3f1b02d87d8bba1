"""What a manifest says of the limits once its checkpoint was timed."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from trimtab.controller._ranking import Setting
from trimtab.emission._emit import _verdict
from trimtab.selection import Choice, Limits

SPEC = Limits(max_drop=0.02, max_flops_ratio=0.6, max_latency_ms=10.0)


def verdict(was: bool, now: bool, asked: Limits = SPEC, drop: float = 0.01) -> dict[str, Any]:
    study: Any = SimpleNamespace(limits=SPEC.to_plain())
    choice: Any = Choice(Setting(drop, 5e8, 0.5), now, [] if now else ["raise latency"])
    return _verdict({"feasible": was, "meets_spec": was}, study, choice, asked)


@pytest.mark.parametrize("was", [True, False])
@pytest.mark.parametrize("now", [True, False])
def test_the_time_of_the_file_decides_for_the_specs_own_limits(was: bool, now: bool) -> None:
    said = verdict(was, now)
    assert (said["feasible"], said["meets_spec"]) == (now, now)
    assert bool(said["relaxations"]) is not now


def test_other_limits_on_time_tell_nothing_of_the_specs() -> None:
    said = verdict(False, True, replace(SPEC, max_latency_ms=20.0))
    assert said["feasible"] and not said["meets_spec"]


def test_what_was_asked_for_may_be_less_than_the_spec_wants() -> None:
    said = verdict(False, True, replace(SPEC, max_drop=0.05), drop=0.04)
    assert said["feasible"] and not said["meets_spec"]
