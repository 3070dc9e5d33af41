"""The density histogram: how many latents fire on how many of the tokens."""

from __future__ import annotations

from dataclasses import dataclass

from trainings.models import Sae

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
class Density:
    """A histogram over powers of ten, ready to be drawn in WIDTH x HEIGHT.

    `often` counts latents that fire on at least a tenth of the tokens.
    """

    bars: list[Bar]
    ticks: list[tuple[float, str]]
    most: int
    alive: int
    never: int
    often: int

    width, height, left, floor = WIDTH, HEIGHT, LEFT, FLOOR


def density(sae: Sae | None) -> Density | None:
    """What was measured on held-out tokens; none before the end."""
    found = (sae.evaluation if sae else {}).get("density")
    if not found:
        return None
    counts, start, width = found["counts"], found["start"], found["width"]
    first = next((i for i, n in enumerate(counts) if n), len(counts) - 1)
    # From a whole power of ten on, so that the axis begins with a tick.
    first -= round((start + first * width) % 1 / width)
    shown = counts[first:]
    most = max([*shown, 1])
    each = (WIDTH - LEFT) / len(shown)
    bars = []
    for i, n in enumerate(shown):
        low = start + (first + i) * width
        tall = (FLOOR - TOP) * n / most
        text = f"{n:,} latents fire on 10^{low:g} to 10^{low + width:g} of the tokens"
        bars.append(Bar(LEFT + i * each, FLOOR - tall, each - 1, tall, text))
    ticks = []
    for power in range(round(start + first * width), 1):
        at = LEFT + (power - start - first * width) / width * each
        ticks.append((at, f"{100 * 10.0**power:g} %"))
    often = sum(counts[-round(1 / width) :])
    return Density(bars, ticks, most, sum(counts), found["never"], often)
