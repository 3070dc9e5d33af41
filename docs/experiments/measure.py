"""What every experiment here shares: the same batches, one measure on held-out tokens, one record.

Shapes: B tokens in a batch, D width, F latents.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

_TOKENS_AT_ONCE = 2048
# The L0 that steers a coefficient is averaged over so many steps.
_STEERED_OVER = 10


class Contender(Protocol):
    """An SAE in training. `coefficient` is its penalty's final weight; None where it has none.

    It can be set, but for ours, which is told an L0 instead.
    """

    coefficient: float | None

    def step(self, x_BD: Tensor) -> None:
        """One step on raw activations, as its own trainer does it."""

    def reconstruct(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Raw x̂ [B, D] and which latents are active [B, F]."""


class Data:
    """The folder that `activations.py` wrote, cut to `tokens` and into batches."""

    def __init__(self, folder: Path, tokens: int, batch: int) -> None:
        files = sorted(folder.glob("training-*.npy"))
        parts = [np.load(file, mmap_mode="r") for file in files[: 1 + tokens // 60_000]]
        both = torch.from_numpy(np.concatenate(parts, axis=1)[:, :tokens])
        if both.shape[1] < tokens:
            raise SystemExit(f"{folder} holds {both.shape[1]:,} tokens; ask for no more.")
        self.training, self.next_layer = both
        self.held_out, self.held_out_next = torch.from_numpy(np.load(folder / "held_out.npy"))
        self.batch, self.steps = batch, tokens // batch
        self.width = both.shape[2]

    def first(self, tokens: int) -> Data:
        """The same run, cut short; its schedules are those of a short run."""
        short = copy(self)
        short.training, short.steps = self.training[:tokens], tokens // self.batch
        return short

    def batches(self) -> Iterator[Tensor]:
        return iter(self.training[: self.steps * self.batch].split(self.batch))


def trained(contender: Contender, data: Data, target_l0: float | None = None) -> dict[str, Any]:
    """Train over all batches and measure. With `target_l0` the coefficient is steered on the way.

    The steering is proportional, on the L0 of the first 64 tokens of the last steps' batches, and
    begins after a fifth of the run: a way to compare learning rates at one L0 in one run each.
    """
    begun, recent = time.perf_counter(), list[float]()
    for number, x_BD in enumerate(data.batches(), start=1):
        contender.step(x_BD)
        if target_l0 is None or number < data.steps / 5:
            continue
        with torch.no_grad():
            recent.append(float(contender.reconstruct(x_BD[:64])[1].sum(1).float().mean()))
        if contender.coefficient is not None and len(recent) >= _STEERED_OVER:
            l0 = sum(recent[-_STEERED_OVER:]) / _STEERED_OVER
            error = min(1.0, max(-1.0, math.log(max(l0, 1e-6) / target_l0)))
            contender.coefficient *= math.exp(0.05 * error)
    seconds = time.perf_counter() - begun
    return evaluated(contender.reconstruct, data.held_out) | {
        "coefficient": contender.coefficient,
        "tokens": data.steps * data.batch,
        "batch": data.batch,
        "seconds": round(seconds),
    }


@torch.no_grad()
def evaluated(
    reconstruct: Callable[[Tensor], tuple[Tensor, Tensor]],
    held_out_MD: Tensor,
    wanted_MD: Tensor | None = None,
) -> dict[str, float]:
    """FVU = Σ‖y − ŷ‖² / Σ‖y − ȳ‖² in raw space, mean L0, share of latents that fired at all.

    y is x itself unless it is another layer, `wanted_MD`.
    """
    wanted_MD = held_out_MD if wanted_MD is None else wanted_MD
    mean_D = wanted_MD.double().mean(0)
    error = whole = active = 0.0
    fired_F: Tensor | None = None
    pairs = zip(held_out_MD.split(_TOKENS_AT_ONCE), wanted_MD.split(_TOKENS_AT_ONCE), strict=True)
    for x_BD, y_BD in pairs:
        y_hat_BD, active_BF = reconstruct(x_BD)
        error += float((y_BD - y_hat_BD).double().square().sum())
        whole += float((y_BD.double() - mean_D).square().sum())
        active += float(active_BF.sum())
        fired_F = active_BF.any(0) if fired_F is None else fired_F | active_BF.any(0)
    assert fired_F is not None
    return {
        "fvu": error / whole,
        "l0": active / len(held_out_MD),
        "alive": float(fired_F.float().mean()),
    }


class Record:
    """Points in a JSON file, each with its question; what is there is not asked again."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.points: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []

    def ask(self, question: dict[str, Any], answer: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The point for this question, from the file or by computing it."""
        for point in self.points:
            if question.items() <= point.items():
                return point
        point = question | {
            name: float(f"{value:.4g}") if isinstance(value, float) else value
            for name, value in answer().items()
        }
        self.points.append(point)
        lines = ",\n".join(" " + json.dumps(p, ensure_ascii=False) for p in self.points)
        self._file.write_text(f"[\n{lines}\n]\n")
        return point


def at_l0(points: list[dict[str, Any]], l0: float) -> float:
    """FVU at this L0, log FVU linear in log L0 between the nearest points on its two sides.

    NaN where the points lie on one side only: nothing is extrapolated.
    """
    below = max((p for p in points if p["l0"] <= l0), key=lambda p: p["l0"], default=None)
    above = min((p for p in points if p["l0"] >= l0), key=lambda p: p["l0"], default=None)
    if below is None or above is None:
        return math.nan
    if below["l0"] == above["l0"]:
        return float(min(below["fvu"], above["fvu"]))
    share = math.log(l0 / below["l0"]) / math.log(above["l0"] / below["l0"])
    return math.exp((1 - share) * math.log(below["fvu"]) + share * math.log(above["fvu"]))
