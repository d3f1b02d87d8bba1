"""What a notebook shows: whatever is in the database, a line and a block come out of it."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from trimtab import notebook
from trimtab._plot_svg import ticks
from trimtab.controller import RunResult
from trimtab.emission import Emission
from trimtab.emission._certify import Certificate
from trimtab.plan import Plan
from trimtab.study import Study
from trimtab_storage import NewPoint, Store

SPEC = {"task": {"metric": "accuracy"}, "search": {"trials": 9, "time": "30 min"}}
LIMITS = {"max_drop": 0.02, "max_flops_ratio": 0.5}
HOSTILE = "<script>alert('x')</script>&\"\x1b[31m\n\x00"
MAY_STAND = {"div", "b", "table", "tr", "th", "td", "p", "code", "img"}
NO_END = {"img"}


class Strict(HTMLParser):
    """Takes note of tags and of text, and that every tag is closed where it was opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.names: set[str] = set()
        self.text, self._open = "", list[str]()
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.names |= {name for name, _ in attrs}
        if tag not in NO_END:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> Strict:
    """Parses a block; nothing in it may act, or reach for anything outside it."""
    found = Strict(html)
    assert set(found.tags) <= MAY_STAND
    assert found.names <= {"style", "alt", "src"}
    assert "http" not in html and "\x1b" not in html
    return found


def picture(html: str) -> list[ElementTree.Element]:
    (source,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    return list(ElementTree.fromstring(base64.b64decode(source)).iter())


def point(key: str, ratio: float, drop: float, **changes: Any) -> NewPoint:
    values: dict[str, Any] = {
        "artifact_key": key,
        "recipe": [{"strategy": "fisher", "choices": {"rungs": key}}] if ratio < 1 else [],
        "knobs": {},
        "split": "search",
        "n": 200,
        "metric": 0.9 - drop,
        "drop": drop,
        "flops": ratio * 1e9,
        "flops_ratio": ratio,
        "params": 1000,
        "latency": None,
        "feasible": True,
    }
    return NewPoint(**{**values, **changes})


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Study]:
    """Makes a study of points, and of trials that failed for these reasons."""
    db = f"sqlite:///{tmp_path / 'trimtab.db'}"

    def make(
        *points: NewPoint,
        name: str = "reviews",
        reasons: tuple[str, ...] = (),
        limits: Any = LIMITS,
    ) -> Study:
        with Store.open(db) as store:
            lease = store.acquire(store.create_study(name, SPEC, {}, {}).id, "test", 3600)
            if points:
                dense = {"metric": 0.9, "flops": 1e9, "params": 2000, "artifact": "dense"}
                store.update_study(lease, baseline=dense, limits=limits, elapsed_s=61.0)
                store.add_points(lease, points)
            for number, reason in enumerate(reasons):
                trial = store.add_trial(lease, points[-1].recipe, f"recipe-{number}")
                store.fail_trial(lease, trial.id, store.start_trial(lease, trial.id), reason, 3.0)
            store.release(lease, state="new")
        return Study(name, db)

    return make


DENSE = point("dense", 1.0, 0.0)
FOUND = (DENSE, point("a", 0.6, 0.002), point("b", 0.4, 0.01), point("c", 0.3, 0.05))


def test_a_study_tells_where_it_stands(make: Callable[..., Study]) -> None:
    study = make(*FOUND, reasons=("error: singular matrix",))
    place = f"<Study 'reviews' in {study.db}: "
    told = "new, 1 of 9 trials done, 1 failed; best: point 3, 40.0% FLOPs at +1.00 pt>"
    assert repr(study) == place + told
    html = study._repr_html_()
    shown = read(html)
    for text in ("Study reviews", "0.9000 at 1 GFLOPs", "1 min 1 s used", "error: singular matrix"):
        assert text in shown.text
    assert f"trimtab trials reviews --replay 0 --db {study.db}" in shown.text
    assert shown.tags.count("table") == 2 and shown.tags.count("img") == 1
    assert re.findall(r">([*-]?)</td><td[^>]*>(\d)<", html) == [
        *(("-", "4"), ("*", "3"), ("-", "2"), ("-", "1"))
    ]


def test_the_picture_has_every_point_limit_and_label(make: Callable[..., Study]) -> None:
    found = picture(make(*FOUND)._repr_html_())
    texts = [element.text for element in found if element.tag.endswith("text")]
    for text in (
        "budget 50% FLOPs",
        "max drop 2 pt",
        "baseline",
        "best: 40.0% FLOPs, \u22121.00 pt",
    ):
        assert text in texts
    dots = sum(element.tag.endswith("circle") for element in found)
    assert dots == len(FOUND) + 4, "all points, and again those of the frontier"


def test_latencies_are_shown_where_any_was_measured(make: Callable[..., Study]) -> None:
    latency = {"statistic": "p95", "value": 6.1, "low": 5.9, "high": 6.4, "verdict": "stable"}
    guessed = {"value": None, "verdict": "predicted"}
    study = make(DENSE, point("b", 0.4, 0.01, latency=latency), point("c", 0.3, 0.05))
    words = "40.0% FLOPs, 6.1 ms [5.9, 6.4] p95 at +1.00 pt"
    assert words in repr(study)
    shown = read(study._repr_html_()).text
    assert words in shown and "latency" in shown and "–" in shown
    other = make(DENSE, point("d", 0.4, 0.01, latency=guessed), name="guessed")
    assert "latency" not in read(other._repr_html_()).text and " ms" not in repr(other)


def test_of_many_points_the_frontier_is_shown(
    make: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    front = [point(f"f{i}", 0.2 + 0.02 * i, 0.03 - 0.001 * i) for i in range(30)]
    study = make(DENSE, *front, point("beaten", 0.9, 0.02))
    every = sum(element.tag.endswith("circle") for element in picture(study._repr_html_()))
    monkeypatch.setattr(notebook, "MOST_DRAWN", 20)
    html = study._repr_html_()
    assert sum(element.tag.endswith("circle") for element in picture(html)) < every
    shown = read(html).text
    best = study.choose().point.id
    assert re.search(rf">\*</td><td[^>]*>{best}<", html)
    assert re.search(r"1[23] of 31 points of the frontier", shown)


def test_nothing_measured_yet_is_said(make: Callable[..., Study]) -> None:
    study = make()
    assert repr(study).endswith(": new, 0 of 9 trials done>")
    shown = read(study._repr_html_())
    assert "not measured yet" in shown.text and "img" not in shown.tags


def test_what_is_not_there_is_one_clear_line(make: Callable[..., Study], tmp_path: Path) -> None:
    for study, told in [
        (Study("nope", make(*FOUND).db), "no study 'nope' in .*there are: reviews"),
        (Study("gone", f"sqlite:///{tmp_path}/gone.db"), "no database at .*gone.db"),
        (Study("odd", "postgresql://me:secret@host/db"), "only SQLite databases are supported"),
    ]:
        assert re.search(told, repr(study)) and "\n" not in repr(study)
        assert re.search(told, read(study._repr_html_()).text)
        assert "secret" not in repr(study) + study._repr_html_()


def test_a_database_that_is_none_does_not_fail(tmp_path: Path) -> None:
    (tmp_path / "torn.db").write_bytes(b"no database at all" * 100)
    study = Study("reviews", f"sqlite:///{tmp_path / 'torn.db'}")
    assert repr(study).startswith("<Study 'reviews' in ")
    assert "Study reviews" in read(study._repr_html_()).text


def test_whatever_goes_wrong_is_told_and_not_raised(
    make: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make(*FOUND)

    def broken(self: Study) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(Study, "status", broken)
    assert repr(study).endswith(": ZeroDivisionError>")
    assert "ZeroDivisionError" in read(study._repr_html_()).text


def test_hostile_names_are_only_text(make: Callable[..., Study]) -> None:
    recipe = [{"strategy": HOSTILE, "choices": {HOSTILE: HOSTILE}}]
    bad = point("b", 0.4, 0.01, recipe=recipe, knobs={HOSTILE: HOSTILE})
    study = make(DENSE, bad, name=HOSTILE, reasons=(HOSTILE,))
    assert "\n" not in repr(study) and "\x1b" not in repr(study)
    html = study._repr_html_()
    assert read(html).text.count("<script>") >= 5
    assert all("script" not in element.tag for element in picture(html))


def test_failures_are_the_latest(make: Callable[..., Study]) -> None:
    study = make(*FOUND, reasons=tuple(f"reason {n}" for n in range(5)))
    shown = read(study._repr_html_()).text
    assert [n for n in range(5) if f"reason {n}" in shown] == [2, 3, 4]
    assert "2 more failed before" in shown


# What a run gives


@pytest.fixture
def result(make: Callable[..., Study]) -> RunResult:
    """A run in which nothing met the limits, and that failed to be certified."""
    study = make(*FOUND, limits={"max_drop": 0.009, "max_flops_ratio": 0.45})
    choice = study.choose()
    unseen = replace(choice.point, drop=0.03, n=100)
    certificate = Certificate(choice.point, unseen, (0.01, 0.05), 0.009, 1)
    emission = Emission(Path("runs/<b>/checkpoint"), choice.point, certificate)
    return RunResult(HOSTILE, study.limits(), study.frontier_points(), choice, emission)


def test_a_run_shows_what_it_ended_with(result: RunResult) -> None:
    line = notebook.result_line(result)
    assert "nothing meets the limits; closest: point 3, 40.0% FLOPs at +1.00 pt" in line
    html = notebook.result_html(result)
    shown = read(html).text
    assert "raise max_drop from 0.9 pt to 1 pt" in shown
    assert "drop +3.00 pt (+1.00 pt to +5.00 pt) on 100 rows that decided nothing" in shown
    assert "not certified" in shown and "runs/<b>/checkpoint" in shown
    assert picture(html)


def test_choice_and_checkpoint_show_themselves(result: RunResult) -> None:
    assert notebook.choice_line(result.choice).startswith("<Choice: nothing meets the limits; ")
    assert "raise max_drop" in read(notebook.choice_html(result.choice)).text
    line = notebook.emission_line(result.emission)
    assert line.startswith("<Emission of point 3: runs/<b>/checkpoint; drop +3.00 pt (")
    assert "point 3, 40.0% FLOPs at +1.00 pt" in read(notebook.emission_html(result.emission)).text


def test_a_plan_shows_its_facts_and_warnings() -> None:
    made: Any = SimpleNamespace(
        study="reviews",
        trials_wanted=9,
        trials_that_fit=4,
        warnings=("only <4> fit",),
        facts=lambda: {"disk": "about 9 MB"},
    )
    assert {"study", "trials_wanted", "trials_that_fit", "warnings"} <= set(Plan.__annotations__)
    expected = "<Plan of 'reviews': 9 trials wanted, about 4 fit; only <4> fit>"
    assert notebook.plan_line(made) == expected
    shown = read(notebook.plan_html(made)).text
    assert "about 9 MB" in shown and "warning: only <4> fit" in shown


LOOK = """
import sys
import trimtab
study = trimtab.open_study("reviews", db=sys.argv[1])
print(len(repr(study)), len(study._repr_html_()))
names = {name.partition(".")[0] for name in sys.modules}
print(*names & {"torch", "transformers", "ray", "pandas", "matplotlib", "plotly", "optuna", "rich"})
"""


def test_looking_imports_nothing_heavy(
    make: Callable[..., Study], python: Callable[..., Any]
) -> None:
    ran = python(LOOK, make(*FOUND).db)
    sizes, heavy = ran.out.splitlines()
    assert (ran.code, heavy) == (0, ""), ran.err
    assert int(sizes.split()[1]) < 20_000


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 106, [0, 20, 40, 60, 80, 100]), (-2.4, 1.4, [-2, -1, 0, 1]), (0.5, 0.5, [0.5])],
)
def test_numbers_on_axes_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)
