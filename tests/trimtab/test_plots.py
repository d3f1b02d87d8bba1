from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from trimtab._plot_scene import GOLD, RED, make_scene
from trimtab.plots import plot_frontier
from trimtab.selection import Limits

LIMITS = Limits(max_drop=0.01, max_flops_ratio=0.4)


@dataclass(frozen=True)
class Point:
    id: int
    drop: float
    flops_ratio: float
    recipe: list[dict[str, Any]] = field(default_factory=list)
    knobs: dict[str, Any] = field(default_factory=dict)
    latency: dict[str, Any] | None = None

    @property
    def flops(self) -> float:
        return self.flops_ratio * 2e9

    @property
    def metric(self) -> float:
        return 0.9 - self.drop


def fisher(**choices: Any) -> list[dict[str, Any]]:
    return [{"strategy": "fisher", "choices": choices}]


DENSE = Point(0, 0.0, 1.0)
POINTS = [
    Point(1, 0.004, 0.38, fisher(calibration=512, constraint=0.38)),
    Point(2, 0.001, 0.55, fisher(calibration=512, constraint=0.55)),
    Point(3, 0.006, 0.39, fisher(calibration=256)),
    Point(4, 0.300, 0.10, fisher(calibration=256)),
]
FRONTIER = {1, 2, 4}


def scene(points=POINTS, limits=LIMITS, cost="flops", baseline=DENSE):
    return make_scene(points, FRONTIER, baseline, limits, "reviews", cost, "accuracy")


def pixels_of(image, color) -> int:
    return int((np.abs(image[..., :3] - to_rgb(color)).max(axis=-1) < 0.01).sum())


def test_a_png_has_the_promised_size_and_shows_the_best_point(tmp_path):
    out = tmp_path / "frontier.png"
    plot_frontier(POINTS, FRONTIER, DENSE, LIMITS, "reviews", out)
    image = imread(out)
    assert image.shape[:2] == (750, 1200)
    assert pixels_of(image, GOLD) > 50
    assert pixels_of(image, RED) == 0


def test_the_star_is_red_when_nothing_is_feasible(tmp_path):
    out = tmp_path / "frontier.png"
    plot_frontier(POINTS, FRONTIER, DENSE, Limits(0.0001, 0.2), "reviews", out)
    image = imread(out)
    assert pixels_of(image, RED) > 50
    assert pixels_of(image, GOLD) == 0


def test_a_png_takes_a_title_that_is_not_mathematics(tmp_path):
    out = tmp_path / "odd.png"
    plot_frontier(POINTS, FRONTIER, DENSE, LIMITS, r"costs $\frac{1$ < & >", out)
    assert imread(out).shape[:2] == (750, 1200)


def test_an_html_file_needs_nothing_from_elsewhere(tmp_path):
    out = tmp_path / "frontier.html"
    plot_frontier(POINTS, FRONTIER, DENSE, LIMITS, "reviews", out)
    page = out.read_text(encoding="utf-8")
    tags = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page)
    assert tags
    assert not [tag for tag in tags if "src=" in tag or "href=" in tag]
    assert "fisher(calibration=512, constraint=0.38)" in page


def test_what_users_wrote_is_escaped_in_html(tmp_path):
    attack = "<img src=x onerror=alert(1)>"
    point = Point(1, 0.0, 0.3, [{"strategy": attack, "choices": {"a": attack}}], {"tau": attack})
    out = tmp_path / "frontier.html"
    plot_frontier([point], {1}, DENSE, LIMITS, attack, out, metric_name=attack)
    page = out.read_text(encoding="utf-8")
    decoded = page.replace(r"\u003c", "<").replace(r"\u003e", ">")
    assert attack not in page
    assert attack not in decoded  # plotly would show it as a tag after reading its JSON
    assert "&lt;img src=x onerror=alert(1)&gt;" in page


@pytest.mark.parametrize("name", ["frontier.pdf", "frontier", "png"])
def test_another_format_is_refused_before_anything_is_written(tmp_path, name):
    with pytest.raises(ValueError, match=rf"\.png or \.html file, but got '{name}'"):
        plot_frontier(POINTS, FRONTIER, DENSE, LIMITS, "reviews", tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_latency_plot_without_latencies_is_refused():
    with pytest.raises(ValueError, match="plot FLOPs instead"):
        scene(cost="latency")


@pytest.mark.parametrize("verdict", ["unstable", "predicted"])
def test_a_latency_plot_leaves_out_what_is_not_to_be_trusted(verdict):
    timed = replace(POINTS[0], latency={"value": 7.0, "statistic": "p95", "verdict": "stable"})
    other = replace(POINTS[1], latency={"value": 9.0, "statistic": "p95", "verdict": verdict})
    drawn = scene([timed, other], Limits(max_latency_ms=9), "latency")
    assert [mark.x for mark in drawn.marks] == [7.0]
    assert drawn.x_label == "p95 latency of a request, ms"
    assert "7 ms p95" in drawn.marks[0].text


def test_a_latency_plot_of_several_statistics_names_none():
    both = [
        replace(point, latency={"value": 7.0, "statistic": name})
        for point, name in zip(POINTS[:2], ("p50", "p95"), strict=True)
    ]
    assert scene(both, Limits(), "latency").x_label == "latency of a request, ms"


def test_a_latency_plot_leaves_out_what_has_none_and_shows_the_interval():
    timed = replace(POINTS[0], latency={"value": 7.0, "low": 6.5, "high": 8.0})
    drawn = scene([timed, POINTS[1]], Limits(max_latency_ms=9), "latency")
    (mark,) = drawn.marks
    assert (mark.x, mark.x_low, mark.x_high, mark.feasible) == (7.0, 6.5, 8.0, True)
    assert drawn.baseline_x is None


def test_a_picture_of_no_points_still_shows_the_baseline_and_the_limits(tmp_path):
    for suffix in (".png", ".html"):
        out = tmp_path / f"empty{suffix}"
        plot_frontier([], set(), DENSE, LIMITS, "reviews", out)
        assert out.stat().st_size > 10_000
    drawn = scene([])
    assert (drawn.baseline_x, drawn.max_x, drawn.min_y) == (100, 40, -1)


def test_absolute_flops_are_drawn_as_a_share_of_the_baseline():
    assert scene(limits=Limits(max_flops=0.5e9)).max_x == pytest.approx(25)


def test_a_hopeless_point_does_not_flatten_the_picture_but_is_counted():
    drawn = scene()
    assert [m.y for m in drawn.below] == [-30]
    assert drawn.y_range[0] > -5
    assert len(drawn.dots(feasible=True)) == 2
    assert len(drawn.dots(feasible=False)) == 1


def test_the_best_point_is_named():
    assert scene().chosen_label == "best: 38.0% FLOPs, \N{MINUS SIGN}0.40 pt"
    assert scene(limits=Limits(0.0001, 0.2)).chosen_label.startswith("closest: ")


def test_importing_plots_loads_no_plotting_library():
    code = (
        "import sys, trimtab.plots; "
        "print([m for m in ('matplotlib', 'plotly', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_painting_a_png_leaves_pyplot_alone(tmp_path):
    code = (
        "import sys; from pathlib import Path; from types import SimpleNamespace as P; "
        "from trimtab.plots import plot_frontier; from trimtab.selection import Limits; "
        "b = P(id=0, drop=0.0, metric=0.9, flops=1e9, flops_ratio=1.0, latency=None); "
        f"plot_frontier([], [], b, Limits(0.01, 0.4), 't', Path({str(tmp_path / 'a.png')!r})); "
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_no_change_has_no_minus_sign() -> None:
    from trimtab._plot_scene import Mark, _label

    mark = Mark(30.0, -0.0001, 30.0, 30.0, feasible=True, on_frontier=True, text="")
    assert "+0.00 pt" in _label("best", mark, "pt")
