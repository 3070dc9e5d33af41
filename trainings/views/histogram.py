"""A histogram as a drawing: bars, ticks and what each bar says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 640, 220
LEFT, TOP = 48, 12
FLOOR = HEIGHT - 28


@dataclass(frozen=True)
class Bar:
    """One bin, where it is drawn, and what it says."""

    x: float
    y: float
    width: float
    height: float
    text: str


@dataclass(frozen=True)
class Histogram:
    """Ready to be drawn in WIDTH x HEIGHT; `most` is the height of the tallest bar."""

    bars: list[Bar]
    ticks: list[tuple[float, str]]
    most: int

    width, height, left, floor = WIDTH, HEIGHT, LEFT, FLOOR


def histogram(
    counts: Sequence[int],
    start: float,
    width: float,
    say: Callable[[int, float, float], str],
    ticks: Sequence[tuple[float, str]],
) -> Histogram:
    """`counts[i]` lies from `start + i * width` on; `ticks` are values with their labels."""
    most = max([*counts, 1])
    each = (WIDTH - LEFT) / len(counts)
    bars = []
    for i, n in enumerate(counts):
        low, tall = start + i * width, (FLOOR - TOP) * n / most
        text = say(n, low, low + width)
        bars.append(Bar(LEFT + i * each, FLOOR - tall, each - 1, tall, text))
    placed = [(LEFT + (value - start) / width * each, text) for value, text in ticks]
    return Histogram(bars, placed, most)
