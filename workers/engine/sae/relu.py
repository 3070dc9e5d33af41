"""ReLU with an L1 penalty.

z = ReLU(W_enc x + b_enc)        loss = MSE + l1_alpha · L1(z)
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
class Relu(Activation):
    penalty: ClassVar[str | None] = "l1"

    def latents(self, w: Weights, x_BD: Tensor) -> Tensor:
        return dense.pre_activations(w, x_BD).relu_()

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

            return steps.relu(w, x_BD, t_BO, coefficient, products.dtype, products.ranks)
        pre_BF = products.pre_activations(w, x_BD)
        found = Pairs.above(pre_BF, 0.0, products.worth_sparse(x_BD))
        if found is None:
            return dense_step(w, x_BD, t_BO, pre_BF, coefficient, products.ranks)
        return sparse_step(w, x_BD, t_BO, *found, coefficient, products.ranks)


def sparse_step(
    w: Weights,
    x_BD: Tensor,
    t_BO: Tensor,
    active: Pairs,
    z_N: Tensor,
    l1_alpha: Tensor,
    ranks: Ranks = ALONE,
) -> Step:
    """Equal to `dense_step`, at the cost of the active pairs."""
    residual_BO, sampled_N = active.reconstruct(z_N, w, t_BO, ranks)
    mse, g_BO = mean_square(residual_BO)
    dpre_N = sampled_N.mul_(2 / residual_BO.numel()).add_(l1_alpha / len(x_BD))
    gradients, fired_F = active.gradients(z_N, dpre_N, x_BD, g_BO)
    l1 = z_N.sum() / len(x_BD)
    return Step(
        gradients=gradients,
        loss=mse + l1_alpha * l1,
        reconstruction_loss=mse,
        l0=torch.as_tensor(len(z_N) / len(x_BD), device=x_BD.device),
        l1=l1,
        residual_BO=residual_BO,
        fired_F=fired_F,
    )


def dense_step(
    w: Weights,
    x_BD: Tensor,
    t_BO: Tensor,
    pre_BF: Tensor,
    l1_alpha: Tensor,
    ranks: Ranks = ALONE,
) -> Step:
    """Loss against target t and its gradients, by hand; `pre_BF` is used up."""
    whole = DenseStep(w, x_BD, t_BO, ranks)
    for block, pre_RF in whole.blocks(pre_BF):
        z_RF = pre_RF.relu_()
        active_RF = z_RF > 0
        dpre_RF = whole.latent_gradients(block, z_RF)
        dpre_RF.add_(l1_alpha.to(z_RF.dtype) / len(x_BD)).mul_(active_RF)
        whole.add(block, z_RF, dpre_RF, active_RF)
    return whole.step(l1_alpha * whole.l1)
