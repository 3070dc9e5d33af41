"""One latent as its page shows it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trainings.tokens import Token, shaded, visible
from workers.engine.features import Feature, Listed

from .histogram import Histogram, histogram


@dataclass(frozen=True)
class Shown:
    """What is derived from a record for display; `others` are its neighbours, as far as alive."""

    feature: Feature
    others: dict[int, Listed]

    @property
    def examples(self) -> list[tuple[float, list[Token]]]:
        """The strongest first: its peak, and its tokens."""
        found = []
        for example in self.feature.examples:
            values, peak = example["values"], example["peak"]
            tokens = shaded(example["tokens"], values, self.feature.maximum, peak)
            found.append((values[peak], tokens))
        return found

    @property
    def promotes(self) -> list[tuple[str, float]]:
        return [(visible(word), effect) for word, effect in self.feature.promotes]

    @property
    def suppresses(self) -> list[tuple[str, float]]:
        return [(visible(word), effect) for word, effect in self.feature.suppresses]

    @property
    def neighbours(self) -> list[tuple[int, float, Listed | None]]:
        return [(i, cosine, self.others.get(i)) for i, cosine in self.feature.neighbours]

    @property
    def drawing(self) -> Histogram:
        """Its activations over powers of two."""
        found = self.feature.histogram
        counts, start, width = found["counts"], found["start"], 1 / found["per_octave"]
        powers = range(math.ceil(start), math.floor(start + len(counts) * width) + 1)
        ticks = [(power, f"{2.0**power:g}") for power in powers]
        return histogram(counts, start, width, _say, ticks)


def _say(n: int, low: float, high: float) -> str:
    return f"{n:,} activations from {2**low:.4g} to {2**high:.4g}"
