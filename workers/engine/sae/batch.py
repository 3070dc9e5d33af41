"""TopK over a whole batch (Bussmann, Leask and Nanda 2024, arXiv 2412.06410).

    training    z = pre at the B · K largest positive pairs of the batch, pre = W_enc x + b_enc
    trained     z = pre · [pre > θ]
    loss = MSE + auxk_alpha · MSE(ê, e), as in `topk.py`

So a token takes as many latents as it needs, K on average. θ is a running average of the smallest
pre-activation that a step kept. A step in micro-batches keeps the largest of each micro-batch,
(B/m) · K of them, and takes the mean of their smallest: the same number of pairs, but not quite
the same ones as of the whole batch. The number of micro-batches is part of a checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..ranks import ALONE, Ranks
from . import dense, topk
from .activation import Activation
from .dense import Products
from .pairs import Pairs
from .step import Step, Weights

# θ's share of the newest step: it is a quantile over thousands of pairs and hardly scatters, but
# it moves with the weights.
_RATE = 0.05


@dataclass(frozen=True)
class TopOfBatch(Activation):
    """`k` latents per token on average; there is no penalty to weigh."""

    k: int
    auxk_alpha: float
    running: Weights = field(default_factory=lambda: {"threshold": torch.zeros(())})
    penalty: ClassVar[str | None] = None

    def latents(self, w: Weights, x_BD: Tensor) -> Tensor:
        pre_BF = dense.pre_activations(w, x_BD)
        return pre_BF.mul_(pre_BF > self.running["threshold"])

    def inference(self, w: Weights) -> Weights:
        threshold_F = self.running["threshold"].expand(len(w["b_enc"]))
        return super().inference(w) | {"threshold": threshold_F}

    def step(
        self,
        w: Weights,
        x_BD: Tensor,
        t_BO: Tensor,
        coefficient: Tensor,
        dead: Tensor | None,
        products: Products,
    ) -> Step:
        pre_BF, ranks = products.pre_activations(w, x_BD), products.ranks
        kept, pre_N = Pairs.largest(pre_BF, self.k * len(x_BD), ranks)
        seen = {"smallest": smallest(pre_N, ranks)}
        return replace(self.step_of(w, x_BD, t_BO, pre_BF, kept, pre_N, dead, ranks), seen=seen)

    def step_of(
        self,
        w: Weights,
        x_BD: Tensor,
        t_BO: Tensor,
        pre_BF: Tensor,
        kept: Pairs,
        pre_N: Tensor,
        dead: Tensor | None,
        ranks: Ranks,
    ) -> Step:
        """The step once the pairs are chosen; `pre_BF` and `pre_N` are used up."""
        return topk.step(w, x_BD, t_BO, pre_BF, kept, pre_N, dead, self.auxk_alpha, ranks)

    def observe(self, seen: Weights) -> None:
        """The first step sets θ; one in which nothing was active does not move it."""
        threshold, newest = self.running["threshold"], seen["smallest"]
        followed = torch.where(threshold > 0, torch.lerp(threshold, newest, _RATE), newest)
        threshold.copy_(torch.where(newest > 0, followed, threshold))


def smallest(pre_N: Tensor, ranks: Ranks = ALONE) -> Tensor:
    """The smallest positive value of all ranks; 0 where there is none."""
    least = pre_N.new_full((), torch.inf)
    if len(pre_N):
        least = pre_N.masked_fill(pre_N <= 0, torch.inf).amin()
    least = ranks.least(least)
    return least.masked_fill(least.isinf(), 0.0)
