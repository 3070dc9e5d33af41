"""The density histogram: how many latents fire on how many of the tokens."""

from __future__ import annotations

from dataclasses import dataclass

from trainings.models import Sae

from .histogram import Histogram, histogram


@dataclass(frozen=True)
class Density:
    """A histogram over powers of ten; `often` counts latents that fire on at least a tenth."""

    drawing: Histogram
    alive: int
    never: int
    often: int


def density(sae: Sae | None) -> Density | None:
    """What was measured when it was evaluated; none before that."""
    found = (sae.evaluation if sae else {}).get("density")
    if not found:
        return None
    counts, start, width = found["counts"], found["start"], found["width"]
    first = next((i for i, n in enumerate(counts) if n), len(counts) - 1)
    # From a whole power of ten on, so that the axis begins with a tick.
    first -= round((start + first * width) % 1 / width)
    begin = start + first * width
    ticks = [(power, f"{100 * 10.0**power:g} %") for power in range(round(begin), 1)]
    drawing = histogram(counts[first:], begin, width, _say, ticks)
    often = sum(counts[-round(1 / width) :])
    return Density(drawing, sum(counts), found["never"], often)


def _say(n: int, low: float, high: float) -> str:
    return f"{n:,} latents fire on 10^{low:g} to 10^{high:g} of the tokens"
