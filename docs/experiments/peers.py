"""FVU at equal L0 and equal tokens: this engine beside SAELens, sparsify and dictionary_learning.

Two rounds. The first finds each contender's learning rate on a short run, climbing a grid until it
gets worse. The second trains with that rate on all tokens, changing the penalty's weight until L0
lies on both sides of the one asked for, and interpolates. Every run is a point of `peers.json`; a
run that is there is not repeated, so the script can be stopped at any time.

    python docs/experiments/peers.py activations --tokens 524288 --batch 512
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import contenders
import torch
from contenders import Make
from measure import Contender, Data, Record, at_l0, trained
from ours import Ours

from workers.engine.config import FIELDS, PRESETS

# Learning rates in steps of about three; a contender begins at its `rate` and climbs.
GRID = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
LIBRARIES = ("SAE Studio", "SAELens", "sparsify", "dictionary_learning")
# In comparing learning rates a small difference in L0 is set off: FVU falls about as 1 / √L0.
_SLOPE, _FAR = 0.5, 4.0
_MOST_RUNS = 4


@dataclass(frozen=True)
class Entry:
    """A contender: how it is made, its first rate, and its first weight.

    `grows` says whether L0 grows with the weight, as it does where the weight is the L0 wanted.
    """

    kind: str
    name: str
    make: Make
    weight: float
    rate: float = 3e-3
    grows: bool = False


def entries(kind: str, latents: int, l0: float) -> list[Entry]:
    """Ours first."""
    if kind == "topk":
        found = [Entry(kind, "SAE Studio", _ours(kind, latents), l0, 1e-3)]
        found += [Entry(kind, name, make, l0) for name, make in contenders.topk(latents).items()]
        return found
    peers = contenders.standard if kind == "standard" else contenders.jumprelu
    aims = kind == "jumprelu"  # dictionary_learning's JumpReLU is told an L0, as ours is
    weights = {"SAELens": 1.0, "dictionary_learning": l0 if aims else 0.03}
    found = [Entry(kind, "SAE Studio", _ours(kind, latents), l0, 1e-3, grows=True)]
    for name, make in peers(latents).items():
        library = name.partition(",")[0]
        grows = aims and library == "dictionary_learning"
        found.append(Entry(kind, name, make, weights[library], grows=grows))
    return found


def _ours(kind: str, latents: int) -> Make:
    """The shipped preset; the weight is `target_l0`, or K."""
    preset = PRESETS["topk-32" if kind == "topk" else f"{kind}-l0-64"]

    def make(data: Data, lr: float, weight: float) -> Contender:
        own = {"top_k_sparsity": 100 * weight / latents, "target_l0": None}
        if kind != "topk":
            own = {"target_l0": weight}
        h = {**preset.hyperparameters, "latent_dim": latents, "learning_rate": lr, **own}
        return Ours(data, preset.architecture.value, **h)

    return make


class Comparison:
    """One L0 asked of every entry; its points."""

    def __init__(self, data: Data, short: Data, record: Record, l0: float) -> None:
        self._data, self._short, self._record, self._l0 = data, short, record, l0

    def rate(self, entry: Entry) -> tuple[float, dict[str, Any]]:
        """The best learning rate of the short run, and its point."""
        tried: dict[float, dict[str, Any]] = {}

        def score(rate: float) -> float:
            if rate not in tried:
                tried[rate] = self._point(entry, self._short, rate, entry.weight, steered=True)
            return self.score(tried[rate])

        best = entry.rate
        for direction in (-1, 1):
            while (rate := _beside(best, direction, entry)) and score(rate) < score(best):
                best = rate
        return best, tried[best]

    def score(self, point: dict[str, Any]) -> float:
        """FVU, as it were at the L0 asked for; infinite where L0 is too far from it to tell."""
        ratio = point["l0"] / self._l0
        return float(point["fvu"] * ratio**_SLOPE) if 1 / _FAR < ratio < _FAR else math.inf

    def fvu(self, entry: Entry, rate: float, weight: float) -> list[dict[str, Any]]:
        """Points of the whole run that bracket the L0, or the nearest after four tries."""
        points: list[dict[str, Any]] = []
        while len(points) < _MOST_RUNS:
            point = self._point(entry, self._data, rate, weight, steered=False)
            points.append(point)
            if entry.kind == "topk" or not math.isnan(at_l0(points, self._l0)):
                break
            weight = _next_weight(point["l0"] / self._l0, weight, entry.grows)
        return points

    def _point(
        self, entry: Entry, data: Data, rate: float, weight: float, steered: bool
    ) -> dict[str, Any]:
        aims = steered and entry.kind != "topk" and not entry.grows
        question = {
            "kind": entry.kind,
            "contender": entry.name,
            "asked_l0": self._l0,
            "tokens": data.steps * data.batch,
            "batch": data.batch,
            "learning_rate": rate,
            "weight": float(f"{weight:.4g}"),
            "steered": aims,
        }
        target = self._l0 if aims else None
        asked = len(self._record.points)
        point = self._record.ask(
            question, lambda: trained(entry.make(data, rate, question["weight"]), data, target)
        )
        if len(self._record.points) > asked:
            sys.stderr.write(
                f"{entry.kind} {entry.name} lr {rate:g} weight {weight:.3g} "
                f"{point['tokens']:,} tokens: FVU {point['fvu']:.4f} L0 {point['l0']:.1f} "
                f"alive {point['alive']:.0%} in {point['seconds']} s\n"
            )
        return point


def _beside(rate: float, direction: int, entry: Entry) -> float | None:
    index = GRID.index(rate) + direction
    if not 0 <= index < len(GRID):
        return None
    beside = GRID[index]
    return (
        None
        if entry.name == "SAE Studio" and FIELDS["learning_rate"].range_problem(beside)
        else beside
    )


def _next_weight(ratio: float, weight: float, grows: bool) -> float:
    """Where L0 should be a little beyond the one asked for, on the other side."""
    step = min(8.0, max(1 / 8, ratio)) * (1.05 if ratio > 1 else 1 / 1.05)
    return weight / step if grows else weight * step


def main() -> None:
    options = _arguments()
    torch.set_num_threads(options.threads)
    data = Data(options.activations, options.tokens, options.batch)
    short = data.first(options.short_tokens)
    record = Record(options.out)
    rows: list[str] = []
    for kind in options.kinds:
        asked = options.k if kind == "topk" else [options.l0]
        first = Comparison(data, short, record, asked[0])
        found = entries(kind, options.latents, asked[0])
        chosen = _best_variants(found, first, options.libraries, options.every_variant)
        for l0 in asked:
            comparison = Comparison(data, short, record, l0)
            for entry in entries(kind, options.latents, l0):
                if entry.name in chosen:
                    rows.append(_row(entry, comparison, chosen[entry.name], l0))
    sys.stdout.write("| | learning rate | FVU | at L0 | runs |\n|---|---|---|---|---|\n")
    sys.stdout.write("\n".join(rows) + "\n")


def _best_variants(
    found: list[Entry], comparison: Comparison, libraries: list[str], every_variant: bool
) -> dict[str, tuple[float, dict[str, Any]]]:
    """Of each library the variant that is best on the short run, or every one; rate and point."""
    best: dict[str, tuple[float, str, tuple[float, dict[str, Any]]]] = {}
    for entry in found:
        library = entry.name.partition(",")[0]
        if library not in libraries:
            continue
        rate, point = comparison.rate(entry)
        score = comparison.score(point)
        place = entry.name if every_variant else library
        if place not in best or score < best[place][0]:
            best[place] = (score, entry.name, (rate, point))
    return {name: chosen for _, name, chosen in best.values()}


def _row(
    entry: Entry, comparison: Comparison, chosen: tuple[float, dict[str, Any]], l0: float
) -> str:
    """A line of the table."""
    rate, point = chosen
    points = comparison.fvu(entry, rate, point["coefficient"] if point["steered"] else entry.weight)
    fvu = points[-1]["fvu"] if entry.kind == "topk" else at_l0(points, l0)
    runs = "; ".join(f"{p['fvu']:.4f} at {p['l0']:.1f}, {p['alive']:.0%} alive" for p in points)
    return f"| {entry.kind}, {entry.name} | {rate:g} | {fvu:.4f} | {l0:g} | {runs} |"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("activations", type=Path, help="The folder that activations.py wrote.")
    parser.add_argument("--tokens", type=int, default=524_288)
    parser.add_argument("--short-tokens", type=int, default=131_072)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--latents", type=int, default=4608)
    parser.add_argument("--l0", type=float, default=64)
    parser.add_argument("--k", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--kinds", nargs="+", default=["topk", "standard", "jumprelu"])
    parser.add_argument("--libraries", nargs="+", default=list(LIBRARIES))
    parser.add_argument("--every-variant", action="store_true", help="Not a library's best alone.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("peers.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
