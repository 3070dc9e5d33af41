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

from .pairs import ByLatent, at_pairs, decode
from .step import Step, Weights, mean_square


@dataclass(frozen=True)
class TopK:
    """Exactly `k` latents per token at most; there is no penalty to weigh."""

    k: int
    auxk_alpha: float
    penalty: ClassVar[str | None] = None

    def latents(self, w: Weights, x_BD: Tensor) -> Tensor:
        return latents(w, x_BD, self.k)

    def step(
        self, w: Weights, x_BD: Tensor, t_BO: Tensor, coefficient: Tensor, dead: Tensor | None
    ) -> Step:
        return step(w, x_BD, t_BO, self.k, dead, self.auxk_alpha)


def latents(w: Weights, x_BD: Tensor, k: int) -> Tensor:
    """z [B, F]"""
    pre_BF = torch.addmm(w["b_enc"], x_BD, w["W_enc"].T)
    values_BK, indices_BK = pre_BF.topk(k, dim=1, sorted=False)
    return torch.zeros_like(pre_BF).scatter_(1, indices_BK, values_BK.relu_())


def step(
    w: Weights, x_BD: Tensor, t_BO: Tensor, k: int, dead: Tensor | None, auxk_alpha: float
) -> Step:
    """Loss against target t and its gradients. `dead` holds the indices of dead latents, if any."""
    B, F = len(x_BD), len(w["b_enc"])
    pre_BF = torch.addmm(w["b_enc"], x_BD, w["W_enc"].T)
    z_BK, indices_BK = pre_BF.topk(k, dim=1, sorted=False)
    z_BK = z_BK.relu_()
    residual_BO = decode(indices_BK, z_BK, w["W_dec"]) + w["b_dec"] - t_BO
    mse, g_BO = mean_square(residual_BO)
    active_BK = z_BK > 0
    dpre_BK = at_pairs(indices_BK, g_BO, w["W_dec"]).mul_(active_BK)
    by_latent = ByLatent.of(indices_BK, F)
    gradients = {
        "W_enc": by_latent.product(dpre_BK, x_BD),
        "b_enc": by_latent.sums(dpre_BK),
        "W_dec": by_latent.product(z_BK, g_BO),
        "b_dec": g_BO.sum(0),
    }
    loss = mse
    if dead is not None and auxk_alpha > 0:
        loss = mse + _add_auxiliary(gradients, w, x_BD, pre_BF, residual_BO, dead, auxk_alpha)
    return Step(
        gradients=gradients,
        loss=loss,
        reconstruction_loss=mse,
        l0=active_BK.sum() / B,
        l1=z_BK.sum() / B,
        residual_BO=residual_BO,
        fired_F=indices_BK[active_BK].bincount(minlength=F),
    )


def _add_auxiliary(
    gradients: Weights,
    w: Weights,
    x_BD: Tensor,
    pre_BF: Tensor,
    residual_BO: Tensor,
    dead: Tensor,
    auxk_alpha: float,
) -> Tensor:
    """Add the gradients of the auxiliary loss and return its weighted value."""
    k_aux = min(residual_BO.shape[1] // 2, len(dead))
    values, indices = pre_BF[:, dead].topk(k_aux, dim=1, sorted=False)
    z_BJ = torch.zeros_like(pre_BF[:, dead]).scatter_(1, indices, values.relu_())
    W_dec_JO = w["W_dec"][dead]
    mse, g_BO = mean_square(z_BJ @ W_dec_JO + residual_BO)  # e = −residual
    g_BO = g_BO * auxk_alpha
    dpre_BJ = (g_BO @ W_dec_JO.T).mul_(z_BJ > 0)
    gradients["W_enc"].index_add_(0, dead, dpre_BJ.T @ x_BD)
    gradients["b_enc"].index_add_(0, dead, dpre_BJ.sum(0))
    gradients["W_dec"].index_add_(0, dead, z_BJ.T @ g_BO)
    return mse * auxk_alpha
