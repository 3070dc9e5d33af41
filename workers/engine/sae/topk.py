"""TopK with the auxiliary loss for dead latents (Gao et al. 2024, arXiv 2406.04093).

    z = ReLU(TopK(W_enc x + b_enc))      loss = MSE + auxk_alpha · MSE(ê, e)

e is what the reconstruction leaves over, ê what the K_aux strongest dead latents make of it,
without b_dec. Only the pairs that TopK keeps carry gradient, so only those are computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..ranks import ALONE, Ranks
from ..ranks.select import among_largest
from . import dense, gpu
from .activation import Activation
from .dense import Products
from .pairs import Pairs
from .step import Step, Weights, mean_square


@dataclass(frozen=True)
class TopK(Activation):
    """Exactly `k` latents per token at most; there is no penalty to weigh."""

    k: int
    auxk_alpha: float
    penalty: ClassVar[str | None] = None

    def latents(self, w: Weights, x_BD: Tensor) -> Tensor:
        return latents(w, x_BD, self.k)

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
        if gpu.usable(x_BD.device) and ranks.alone:
            from .gpu import steps

            return steps.topk(w, x_BD, t_BO, pre_BF, self.k, dead, self.auxk_alpha)
        kept, pre_N = Pairs.top(pre_BF, self.k, ranks)
        return step(w, x_BD, t_BO, pre_BF, kept, pre_N, dead, self.auxk_alpha, ranks)


def latents(w: Weights, x_BD: Tensor, k: int) -> Tensor:
    """z [B, F]"""
    pre_BF = dense.pre_activations(w, x_BD)
    values_BK, indices_BK = pre_BF.topk(k, dim=1, sorted=False)
    return torch.zeros_like(pre_BF).scatter_(1, indices_BK, values_BK.relu_())


def step(
    w: Weights,
    x_BD: Tensor,
    t_BO: Tensor,
    pre_BF: Tensor,
    kept: Pairs,
    pre_N: Tensor,
    dead: Tensor | None,
    auxk_alpha: float,
    ranks: Ranks = ALONE,
) -> Step:
    """Loss against target t and its gradients, where only the `kept` pairs may be active.

    `dead` holds the indices of dead latents, if any; `pre_BF` and `pre_N` are used up.
    """
    z_N = pre_N.relu_()
    residual_BO, sampled_N = kept.reconstruct(z_N, w, t_BO, ranks)
    mse, g_BO = mean_square(residual_BO)
    active_N = z_N > 0
    dpre_N = sampled_N.mul_(2 / residual_BO.numel()).mul_(active_N)
    gradients, fired_F = kept.gradients(z_N, dpre_N, x_BD, g_BO)
    loss = mse
    if dead is not None and auxk_alpha > 0:
        loss = mse + add_auxiliary(gradients, w, x_BD, pre_BF, residual_BO, dead, auxk_alpha, ranks)
    return Step(
        gradients=gradients,
        loss=loss,
        reconstruction_loss=mse,
        l0=active_N.sum() / len(x_BD),
        l1=z_N.sum() / len(x_BD),
        residual_BO=residual_BO,
        fired_F=fired_F,
    )


def add_auxiliary(
    gradients: Weights,
    w: Weights,
    x_BD: Tensor,
    pre_BF: Tensor,
    residual_BO: Tensor,
    dead: Tensor,
    auxk_alpha: float,
    ranks: Ranks = ALONE,
) -> Tensor:
    """Add the gradients of the auxiliary loss and return its weighted value; `pre_BF` is used up.

    Where kernels run, `dead` is filled up with F (`DeadLatents`), as only they can take it.
    """
    if gpu.usable(x_BD.device) and ranks.alone:
        from .gpu import auxiliary

        x, W_dec = x_BD.to(pre_BF.dtype), w["W_dec"].to(pre_BF.dtype)
        return auxiliary.add_auxiliary(gradients, x, W_dec, pre_BF, residual_BO, dead, auxk_alpha)
    k_aux = min(residual_BO.shape[1] // 2, len(dead))
    pre_BJ = pre_BF[:, dead].to(x_BD.dtype)
    values, indices = pre_BJ.topk(k_aux, dim=1, sorted=False)
    if not ranks.alone:
        values = values * among_largest(values, residual_BO.shape[1] // 2, ranks.most(k_aux), ranks)
    z_BJ = torch.zeros_like(pre_BJ).scatter_(1, indices, values.relu_())
    W_dec_JO = w["W_dec"][dead]
    mse, g_BO = mean_square(ranks.sum(z_BJ @ W_dec_JO) + residual_BO)  # e = −residual
    g_BO = g_BO * auxk_alpha
    dpre_BJ = (g_BO @ W_dec_JO.T).mul_(z_BJ > 0)
    gradients["W_enc"].index_add_(0, dead, dpre_BJ.T @ x_BD)
    gradients["b_enc"].index_add_(0, dead, dpre_BJ.sum(0))
    gradients["W_dec"].index_add_(0, dead, z_BJ.T @ g_BO)
    return mse * auxk_alpha
