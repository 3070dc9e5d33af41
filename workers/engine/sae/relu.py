"""ReLU with an L1 penalty.

z = ReLU(W_enc x + b_enc)        loss = MSE + l1_alpha · L1(z)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .step import Step, Weights, mean_square


@dataclass(frozen=True)
class Relu:
    penalty: ClassVar[str | None] = "l1"

    def latents(self, w: Weights, x_BD: Tensor) -> Tensor:
        return latents(w, x_BD)

    def step(
        self, w: Weights, x_BD: Tensor, t_BO: Tensor, coefficient: Tensor, dead: Tensor | None
    ) -> Step:
        return step(w, x_BD, t_BO, coefficient)


def latents(w: Weights, x_BD: Tensor) -> Tensor:
    """z [B, F]"""
    return torch.addmm(w["b_enc"], x_BD, w["W_enc"].T).relu_()


def step(w: Weights, x_BD: Tensor, t_BO: Tensor, l1_alpha: Tensor) -> Step:
    """Loss against target t and its gradients, by hand: no pass over [B, F] more than needed."""
    z_BF = latents(w, x_BD)
    residual_BO = torch.addmm(w["b_dec"], z_BF, w["W_dec"]) - t_BO
    mse, g_BO = mean_square(residual_BO)
    active_BF = z_BF > 0
    dpre_BF = torch.addmm(l1_alpha / len(x_BD), g_BO, w["W_dec"].T).mul_(active_BF)
    fired_F = active_BF.sum(0)
    l1 = z_BF.sum() / len(x_BD)
    return Step(
        gradients={
            "W_enc": dpre_BF.T @ x_BD,
            "b_enc": dpre_BF.sum(0),
            "W_dec": z_BF.T @ g_BO,
            "b_dec": g_BO.sum(0),
        },
        loss=mse + l1_alpha * l1,
        reconstruction_loss=mse,
        l0=fired_F.sum() / len(x_BD),
        l1=l1,
        residual_BO=residual_BO,
        fired_F=fired_F,
    )
