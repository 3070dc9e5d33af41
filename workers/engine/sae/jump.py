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

from ..ranks import ALONE, Ranks
from . import dense, gpu
from .activation import Activation
from .dense import DenseStep, Products
from .pairs import Pairs
from .step import Step, Weights, mean_square


@dataclass(frozen=True)
class Jump(Activation):
    """`bandwidth` is ε, in units of normalized pre-activations."""

    bandwidth: float
    penalty: ClassVar[str | None] = "l0"

    def latents(self, w: Weights, x_BD: Tensor) -> Tensor:
        pre_BF = dense.pre_activations(w, x_BD)
        return pre_BF.mul_(pre_BF > w["threshold"])

    def step(
        self,
        w: Weights,
        x_BD: Tensor,
        t_BO: Tensor,
        coefficient: Tensor,
        dead: Tensor | None,
        products: Products,
    ) -> Step:
        if gpu.usable(x_BD.device):
            from .gpu import steps

            return steps.jump(
                w, x_BD, t_BO, coefficient, self.bandwidth, products.dtype, products.ranks
            )
        pre_BF = products.pre_activations(w, x_BD)
        floor_F = w["threshold"] - self.bandwidth / 2
        found = Pairs.above(pre_BF, floor_F, products.worth_sparse(x_BD))
        if found is None:
            return dense_step(w, x_BD, t_BO, pre_BF, coefficient, self.bandwidth, products.ranks)
        return sparse_step(w, x_BD, t_BO, *found, coefficient, self.bandwidth, products.ranks)


def sparse_step(
    w: Weights,
    x_BD: Tensor,
    t_BO: Tensor,
    reached: Pairs,
    pre_N: Tensor,
    l0_alpha: Tensor,
    bandwidth: float,
    ranks: Ranks = ALONE,
) -> Step:
    """Equal to `dense_step`, at the cost of the pairs within reach of their threshold or above."""
    above_N = pre_N - w["threshold"][reached.latents]
    active_N, near_N = above_N > 0, above_N.abs_() < bandwidth / 2
    z_N = pre_N * active_N
    residual_BO, sampled_N = reached.reconstruct(z_N, w, t_BO, ranks)
    mse, g_BO = mean_square(residual_BO)
    dz_N = sampled_N.mul_(2 / residual_BO.numel())
    dH_N = (dz_N * pre_N).add_(l0_alpha / len(x_BD)).mul_(near_N).div_(bandwidth)
    gradients, fired_F = reached.gradients(z_N, dz_N.mul_(active_N).add_(dH_N), x_BD, g_BO)
    l0 = active_N.sum(dtype=mse.dtype) / len(x_BD)
    return Step(
        gradients={**gradients, "threshold": -reached.sums(dH_N)},
        loss=mse + l0_alpha * l0,
        reconstruction_loss=mse,
        l0=l0,
        l1=z_N.sum() / len(x_BD),
        residual_BO=residual_BO,
        fired_F=fired_F,
    )


def dense_step(
    w: Weights,
    x_BD: Tensor,
    t_BO: Tensor,
    pre_BF: Tensor,
    l0_alpha: Tensor,
    bandwidth: float,
    ranks: Ranks = ALONE,
) -> Step:
    """Loss against target t and its gradients, straight-through where H jumps."""
    whole, threshold_F = DenseStep(w, x_BD, t_BO, ranks), torch.zeros_like(w["threshold"])
    penalty = l0_alpha / len(x_BD)
    for block, pre_RF in whole.blocks(pre_BF):
        threshold_F -= _add_block(whole, block, pre_RF, w["threshold"], penalty, bandwidth)
    return whole.step(l0_alpha * whole.l0, threshold=threshold_F)


def _add_block(
    whole: DenseStep,
    block: slice,
    pre_RF: Tensor,
    threshold_F: Tensor,
    penalty: Tensor,
    bandwidth: float,
) -> Tensor:
    """Σ over the block's rows of ∂L/∂H · ∂H/∂pre [F]; what lies between is given back with it."""
    above_RF = pre_RF - threshold_F
    active_RF, near_RF = above_RF > 0, above_RF.abs_() < bandwidth / 2
    z_RF = pre_RF * active_RF
    dz_RF = whole.latent_gradients(block, z_RF)
    dH_RF = (dz_RF * pre_RF).add_(penalty.to(z_RF.dtype)).mul_(near_RF).div_(bandwidth)
    whole.add(block, z_RF, dz_RF.mul_(active_RF).add_(dH_RF), active_RF)
    return dH_RF.sum(0, dtype=threshold_F.dtype)
