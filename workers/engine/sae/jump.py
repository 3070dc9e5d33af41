"""JumpReLU's activation, with straight-through gradients where its step function jumps.

    z = pre · H(pre − θ), pre = W_enc x + b_enc        loss = MSE + l0_alpha · L0(z)

The derivative of H, zero almost everywhere, is replaced by a rectangle of height 1/ε over
|pre − θ| < ε/2, towards the pre-activations as well as towards θ: with gradients to θ alone the
encoder never learns which latents the penalty wants silent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .step import Step, Weights, mean_square


@dataclass(frozen=True)
class Jump:
    """`bandwidth` is ε, in units of normalized pre-activations."""

    bandwidth: float
    penalty: ClassVar[str | None] = "l0"

    def latents(self, w: Weights, x_BD: Tensor) -> Tensor:
        return latents(w, x_BD)

    def step(
        self, w: Weights, x_BD: Tensor, t_BO: Tensor, coefficient: Tensor, dead: Tensor | None
    ) -> Step:
        return step(w, x_BD, t_BO, coefficient, self.bandwidth)


def latents(w: Weights, x_BD: Tensor) -> Tensor:
    """z [B, F]"""
    pre_BF = torch.addmm(w["b_enc"], x_BD, w["W_enc"].T)
    return pre_BF.mul_(pre_BF > w["threshold"])


def step(w: Weights, x_BD: Tensor, t_BO: Tensor, l0_alpha: Tensor, bandwidth: float) -> Step:
    """Loss against target t and its gradients, straight-through where H jumps."""
    pre_BF = torch.addmm(w["b_enc"], x_BD, w["W_enc"].T)
    active_BF = pre_BF > w["threshold"]
    near_BF = (pre_BF - w["threshold"]).abs() < bandwidth / 2
    z_BF = pre_BF * active_BF
    residual_BO = torch.addmm(w["b_dec"], z_BF, w["W_dec"]) - t_BO
    mse, g_BO = mean_square(residual_BO)
    dz_BF = g_BO @ w["W_dec"].T
    dH_BF = (dz_BF * pre_BF).add_(l0_alpha / len(x_BD)).mul_(near_BF).div_(bandwidth)
    dpre_BF = dz_BF.mul_(active_BF).add_(dH_BF)
    fired_F = active_BF.sum(0)
    l0 = fired_F.sum() / len(x_BD)
    return Step(
        gradients={
            "W_enc": dpre_BF.T @ x_BD,
            "b_enc": dpre_BF.sum(0),
            "W_dec": z_BF.T @ g_BO,
            "b_dec": g_BO.sum(0),
            "threshold": -dH_BF.sum(0),
        },
        loss=mse + l0_alpha * l0,
        reconstruction_loss=mse,
        l0=l0,
        l1=z_BF.sum() / len(x_BD),
        residual_BO=residual_BO,
        fired_F=fired_F,
    )
