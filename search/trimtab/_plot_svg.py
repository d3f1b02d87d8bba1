"""Paints a scene as a small SVG, without any library: for notebooks, where it is drawn often."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape

from trimtab._plot_scene import BLUE, GOLD, GREEN, GREY, INK, PALE_GREY, PALE_INK, RED, Scene
from trimtab._wording import one_line

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 624, 14, 312
STANDS_OUT = 'font-weight="bold" stroke="white" stroke-width="3" paint-order="stroke"'
STAR = [(1.0 if i % 2 else 2.3, math.radians(36 * i - 90)) for i in range(10)]


def svg_of(scene: Scene) -> str:
    """Gives the scene as one self-contained SVG text."""
    page = _Page(scene)
    parts = [
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *page.grid(),
        *page.limits(),
        *page.points(),
        *page.frontier(),
        *page.baseline_and_chosen(),
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="11">'
    )
    return "\n".join([head, *parts, "</svg>"])


def ticks(low: float, high: float) -> list[float]:
    """Gives round numbers between two, about six of them."""
    rough = max(high - low, 1e-9) / 6
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [step * place for place in range(first, last + 1)]


class _Page:
    """The scene's units turned into places on the page."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def grid(self) -> Iterable[str]:
        """The numbers on both axes, and what they are of."""
        for x in ticks(*self._scene.x_range):
            yield self._line(self._x(x), TOP, self._x(x), BOTTOM, PALE_GREY)
            yield _text(self._x(x), BOTTOM + 15, f"{x:g}", PALE_INK, "middle")
        for y in ticks(*self._scene.y_range):
            yield self._line(LEFT, self._y(y), RIGHT, self._y(y), PALE_GREY)
            yield _text(LEFT - 6, self._y(y) + 4, f"{round(y, 6):g}", PALE_INK, "end")
        yield _text((LEFT + RIGHT) / 2, HEIGHT - 10, self._scene.x_label, INK, "middle")
        turned = f'transform="rotate(-90 14 {(TOP + BOTTOM) / 2:g})"'
        yield _text(14, (TOP + BOTTOM) / 2, self._scene.y_label, INK, "middle", turned)

    def limits(self) -> Iterable[str]:
        """Shades where everything is within the limits, and draws and names the limits."""
        scene = self._scene
        right = RIGHT if scene.max_x is None else self._x(scene.max_x)
        bottom = BOTTOM if scene.min_y is None else self._y(scene.min_y)
        if scene.max_x is not None or scene.min_y is not None:
            yield (
                f'<rect x="{LEFT}" y="{TOP}" width="{right - LEFT:.1f}" '
                f'height="{bottom - TOP:.1f}" fill="{GREEN}" opacity="0.09"/>'
            )
        dashed = 'stroke-dasharray="6 4"'
        if scene.max_x is not None:
            yield self._line(right, TOP, right, BOTTOM, GREEN, dashed)
            yield _text(right + 4, TOP + 11, scene.budget_label, GREEN)
        if scene.min_y is not None:
            yield self._line(LEFT, bottom, RIGHT, bottom, GREEN, dashed)
            yield _text(RIGHT - 4, bottom + 13, scene.drop_label, GREEN, "end")

    def points(self) -> Iterable[str]:
        """All points; what lies too far down is only pointed at."""
        scene = self._scene
        for feasible, color in ((False, GREY), (True, BLUE)):
            for mark in scene.dots(feasible=feasible):
                yield _dot(self._x(mark.x), self._y(mark.y), 2.5, f'fill="{color}" opacity="0.75"')
        for mark in scene.below:
            yield _text(self._x(mark.x), BOTTOM - 2, "▾", GREY, "middle")

    def frontier(self) -> Iterable[str]:
        """A staircase: between two points, what one can have is what the cheaper one gives."""
        marks = self._scene.frontier
        if not marks:
            return
        start, *others = [(self._x(m.x), min(self._y(m.y), BOTTOM)) for m in marks]
        path = f"M{start[0]:.1f} {start[1]:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in others)
        yield f'<path d="{path}" fill="none" stroke="{BLUE}" stroke-width="1.5"/>'
        for mark in [m for m in marks if m.y >= self._scene.y_floor]:
            fill = BLUE if mark.feasible else "white"
            look = f'fill="{fill}" stroke="{BLUE}" stroke-width="1.5"'
            yield _dot(self._x(mark.x), self._y(mark.y), 3.5, look)

    def baseline_and_chosen(self) -> Iterable[str]:
        """The dense model as a diamond, and the best or closest point as a star."""
        scene = self._scene
        if scene.baseline_x is not None:
            x, y = self._x(scene.baseline_x), self._y(0)
            corners = [(x - 5, y), (x, y - 5), (x + 5, y), (x, y + 5)]
            yield _shape(corners, INK)
            yield _text(min(x, RIGHT - 26), y - 9, "baseline", INK, "middle")
        if scene.chosen is not None:
            x, y = self._x(scene.chosen.x), self._y(scene.chosen.y)
            corners = [(x + 4 * r * math.cos(a), y + 4 * r * math.sin(a)) for r, a in STAR]
            yield _shape(corners, GOLD if scene.chosen.feasible else RED)
            side, anchor = (12, "start") if x < (LEFT + RIGHT) / 2 else (-12, "end")
            yield _text(x + side, y - 8, scene.chosen_label, INK, anchor, STANDS_OUT)

    def _x(self, value: float) -> float:
        low, high = self._scene.x_range
        return LEFT + (RIGHT - LEFT) * (value - low) / max(high - low, 1e-12)

    def _y(self, value: float) -> float:
        low, high = self._scene.y_range
        return BOTTOM - (BOTTOM - TOP) * (value - low) / max(high - low, 1e-12)

    def _line(self, x1: float, y1: float, x2: float, y2: float, color: str, more: str = "") -> str:
        ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        return f'<line {ends} stroke="{color}" {more}/>'


def _dot(x: float, y: float, radius: float, look: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" {look}/>'


def _shape(corners: list[tuple[float, float]], color: str) -> str:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    return f'<polygon points="{places}" fill="{color}" stroke="white"/>'


def _text(x: float, y: float, text: str, color: str, anchor: str = "start", more: str = "") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" fill="{color}" text-anchor="{anchor}"'
    return f"<text {place} {more}>{escape(one_line(text))}</text>"
