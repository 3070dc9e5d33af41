"""Curves as SVG, for what is read without scripts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from .downsample import Point

WIDTH, HEIGHT = 640, 220
LEFT, RIGHT, TOP = 56, 8, 12
FLOOR = HEIGHT - 24
# Beyond this ratio a linear axis shows only the first few points.
LOG_RATIO = 25


@dataclass(frozen=True)
class Drawing:
    """A curve's path, and where which tick stands; coordinates within WIDTH x HEIGHT."""

    title: str
    path: str
    x_ticks: list[tuple[float, float]]
    y_ticks: list[tuple[float, float]]
    log: bool

    width, height, left, right, floor = WIDTH, HEIGHT, LEFT, WIDTH - RIGHT, FLOOR


def draw(title: str, points: list[Point], steps: int) -> Drawing | None:
    """One metric over the run's steps; nothing where it has no value."""
    values = [value for _, value in points if value is not None]
    if not values:
        return None
    low, high = min(values), max(values)
    log = low > 0 and high / low > LOG_RATIO
    if log:
        bottom, top = math.log10(low), math.log10(high)
        y_ticks = [10.0**n for n in range(math.ceil(bottom), math.floor(top) + 1)]
    else:
        bottom, top = min(0.0, low), high
        y_ticks = _nice(bottom, top)
    span = (top - bottom) or 1.0

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / max(1, steps)

    def y(value: float) -> float:
        height = math.log10(value) if log else value
        return FLOOR - (FLOOR - TOP) * (height - bottom) / span

    return Drawing(
        title=title,
        path=_path((x(step), None if value is None else y(value)) for step, value in points),
        x_ticks=[(x(step), step) for step in _nice(0, steps)],
        y_ticks=[(y(value), value) for value in y_ticks],
        log=log,
    )


def _path(places: Iterable[tuple[float, float | None]]) -> str:
    """Lines through these places; a place without a height is a gap."""
    parts, pen_is_down = [], False
    for x, y in places:
        if y is not None and pen_is_down:
            parts.append(f"L{x:.1f} {y:.1f}")
        elif y is not None:
            # With a stroke to itself, so that a point between two gaps is a dot.
            parts.append(f"M{x:.1f} {y:.1f}h0")
        pen_is_down = y is not None
    return " ".join(parts)


def _nice(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from low to high, as many as `most` or one more."""
    span = high - low
    if span <= 0:
        return [low]
    raw = span / most
    unit = 10.0 ** math.floor(math.log10(raw))
    size = next(unit * times for times in (1, 2, 5, 10) if unit * times >= raw)
    first = math.ceil(low / size)
    return [size * n for n in range(first, math.floor(high / size + 1e-9) + 1)]
