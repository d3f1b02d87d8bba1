"""Pictures of a search's course: how the hypervolume grew, and which choices mattered."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from trimtab._plot_course_scene import MOST_BARS, make_bars, make_course
from trimtab._plot_scene import BLUE, RED
from trimtab.importance import Importance
from trimtab.plots import plot_choices, plot_growth
from trimtab.progress import Grown

ATTACK = "<img src=x onerror=alert(1)>"
RECIPE = [{"strategy": "fisher", "choices": {"calibration": 512}}]


def grown(*volumes: float, minutes: float = 1.0, recipe: Any = RECIPE) -> list[Any]:
    """Trials that ended at equal distances; a negative volume is one that failed."""
    made, known = [], 0.0
    for number, volume in enumerate(volumes):
        known = known if volume < 0 else volume
        state = "failed" if volume < 0 else "complete"
        trial: Any = SimpleNamespace(number=number, state=state, recipe=recipe)
        made.append(Grown(trial, 60 * minutes * (number + 1), known))
    return made


def course(*volumes: float, patience: int | None = None, minutes: float = 1.0) -> Any:
    return make_course(grown(*volumes, minutes=minutes), "reviews", 0.02, patience)


SHARES = Importance({"strategies": 0.6, "fisher.ridge": 0.395, "ltp.lr": 0.005, "x": 0.0}, 40, 5)


def pixels_of(image: Any, color: str) -> int:
    return int((np.abs(image[..., :3] - to_rgb(color)).max(axis=-1) < 0.01).sum())


def test_trials_that_found_better_are_told_from_others() -> None:
    steps = course(0.5, 0.5, -1, 0.6).steps
    assert [(step.has_grown, step.failed) for step in steps] == [
        (True, False),
        (False, False),
        (False, True),
        (True, False),
    ]
    assert [step.y for step in steps] == pytest.approx([50, 50, 50, 60])
    assert "trial 2 failed after" in steps[2].text and "fisher(calibration=512)" in steps[0].text


@pytest.mark.parametrize(("minutes", "unit", "last"), [(1, "s", 240), (2, "min", 8), (120, "h", 8)])
def test_time_is_told_in_a_unit_that_fits(minutes: float, unit: str, last: float) -> None:
    drawn = course(0.1, 0.2, 0.3, 0.4, minutes=minutes)
    assert drawn.x_label == f"time of search, {unit}"
    assert drawn.steps[-1].x == pytest.approx(last)


def test_the_trials_that_are_judged_are_shaded_from_the_one_before_them() -> None:
    drawn = course(0.5, 0.6, 0.6, 0.603, patience=2)
    assert (drawn.last, drawn.last_label) == ((120, 240), "last 2 trials: +0.5%")
    assert course(0.5, 0.6, 0.6, patience=1).last_label == "last trial: nothing new"
    assert course(0.5, 0.6, patience=2).last is None, "there is none before them"
    assert course(-1, 0.6, patience=1).last is None, "there was nothing to raise"
    assert course(0.5, 0.6).last is None


def test_the_picture_is_not_flattened_by_what_lies_below_the_first_success() -> None:
    low, high = course(-1, 0.80, 0.81, 0.82).y_range
    assert 75 < low < 80 and 82 < high < 85


def test_a_picture_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a trial that has ended"):
        course()


def test_bars_stand_in_order_and_nothing_has_none() -> None:
    drawn = make_bars(SHARES, "reviews")
    assert [(bar.name, bar.label) for bar in drawn.bars] == [
        ("strategies", "60%"),
        ("fisher.ridge", "40%"),
        ("ltp.lr", "< 1%"),
    ]
    assert "hint" not in drawn.subtitle
    assert "so few trials give a hint" in make_bars(Importance({"a": 1.0}, 12, 5), "").subtitle


def test_of_very_many_choices_the_lesser_are_left_out_and_counted() -> None:
    shares = {f"choice{number}": 1 / 20 for number in range(20)}
    drawn = make_bars(Importance(shares, 40, 5), "reviews")
    assert len(drawn.bars) == MOST_BARS and drawn.subtitle.endswith("8 lesser choices left out")


def test_png_pictures_have_the_size_of_the_others(tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    plot_growth(grown(0.5, -1, 0.6), r"costs $\frac{1$", out, max_drop=0.01, patience=1)
    image = imread(out)
    assert image.shape[:2] == (750, 1200)
    assert pixels_of(image, BLUE) > 100 and pixels_of(image, RED) > 10
    plot_choices(SHARES, r"costs $\frac{1$", out)
    assert imread(out).shape[:2] == (750, 1200)
    assert pixels_of(imread(out), BLUE) > 10_000


def test_html_pictures_need_nothing_from_elsewhere_and_escape_what_users_wrote(
    tmp_path: Path,
) -> None:
    recipe = [{"strategy": ATTACK, "choices": {ATTACK: ATTACK}}]
    first, second = tmp_path / "a.html", tmp_path / "b.html"
    plot_growth(grown(0.5, -1, 0.6, recipe=recipe), ATTACK, first, max_drop=0.01, patience=1)
    plot_choices(Importance({ATTACK: 1.0}, 40, 5), ATTACK, second)
    for out in (first, second):
        page = out.read_text(encoding="utf-8")
        tags = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page)
        assert tags and not [tag for tag in tags if "src=" in tag or "href=" in tag]
        assert ATTACK not in page.replace(r"\u003c", "<").replace(r"\u003e", ">")
        assert "&lt;img src=x onerror=alert(1)&gt;" in page


@pytest.mark.parametrize("name", ["a.pdf", "a"])
def test_another_format_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"\.png or \.html file"):
        plot_growth(grown(0.5), "reviews", tmp_path / name, max_drop=0.01)
    with pytest.raises(ValueError, match=r"\.png or \.html file"):
        plot_choices(SHARES, "reviews", tmp_path / name)
    assert not list(tmp_path.iterdir())
