"""ReLU with a penalty that turns from L1 towards L0 (Karvonen et al. 2024, arXiv 2408.00113).

    z = ReLU(W_enc x + b_enc)
    loss = MSE + l1_alpha · c_t · S_p(z),   S_p(z) = Σ_f (z_f + ε)^p − ε^p, mean over tokens

p falls linearly from 1 in the first step to `final_p` in the last. S_p is the paper's ‖z‖_p^p with
a finite slope where a latent is about to turn off (ε = 0.001); S_1 is L1.

c keeps the penalty's size where p alone would change it: c_1 = 1 and, by the batch of step t,
c_{t+1} = c_t · S_{p_t}(z_t) / S_{p_{t+1}}(z_t). The paper does so at a few changes of p, by the
mean of some batches; here p changes by little at each step, and c by the product of as many ratios.
c and the number of steps are in a checkpoint. The coefficient that is shown, and that `target_l0`
steers, is l1_alpha without c.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..ranks import ALONE, Ranks
from . import dense
from .activation import Activation
from .dense import DenseStep, Products
from .pairs import Pairs
from .step import Step, Weights, mean_square

_EPSILON = 1e-3


def _start() -> Weights:
    return {
        "steps": torch.zeros((), dtype=torch.int64),
        "factor": torch.ones((), dtype=torch.float64),
    }


@dataclass(frozen=True)
class Annealed(Activation):
    """`steps` are those of the whole run."""

    final_p: float
    steps: int
    running: Weights = field(default_factory=_start)
    penalty: ClassVar[str | None] = "l1"

    def latents(self, w: Weights, x_BD: Tensor) -> Tensor:
        return dense.pre_activations(w, x_BD).relu_()

    def exponent(self, ahead: int) -> Tensor:
        """p so many steps after the last finished one, a float64 scalar on the device."""
        done = (self.running["steps"] + (ahead - 1)).double() / max(1, self.steps - 1)
        return 1 - (1 - self.final_p) * done.clamp(max=1.0)

    def step(
        self,
        w: Weights,
        x_BD: Tensor,
        t_BO: Tensor,
        coefficient: Tensor,
        dead: Tensor | None,
        products: Products,
    ) -> Step:
        p, next_p = self.exponent(1), self.exponent(2)
        weight = (coefficient * self.running["factor"]).to(x_BD.dtype)
        pre_BF = products.pre_activations(w, x_BD)
        found = Pairs.above(pre_BF, 0.0, products.worth_sparse(x_BD))
        if found is None:
            step = dense_step(w, x_BD, t_BO, pre_BF, weight, p, next_p, products.ranks)
        else:
            step = sparse_step(w, x_BD, t_BO, *found, weight, p, next_p, products.ranks)
        return _seen_by_all(step, products.ranks)

    def observe(self, seen: Weights) -> None:
        """A step in which nothing was active says nothing about c."""
        ratio = (seen["penalty"] / seen["next_penalty"]).double()
        self.running["factor"].mul_(torch.where(seen["next_penalty"] > 0, ratio, 1.0))
        self.running["steps"].add_(1)


def _seen_by_all(step: Step, ranks: Ranks) -> Step:
    """S over the latents of all ranks, where the step is of this rank's own."""
    sums = ranks.sum(torch.stack(list(step.seen.values())))
    return replace(step, seen=dict(zip(step.seen, sums, strict=True)))


def power(z: Tensor, p: Tensor) -> Tensor:
    """(z + ε)^p − ε^p"""
    return (z + _EPSILON).pow_(p).sub_(_EPSILON**p)


def slope(z: Tensor, p: Tensor) -> Tensor:
    """Its derivative by z."""
    return (z + _EPSILON).pow_(p - 1).mul_(p)


def sparse_step(
    w: Weights,
    x_BD: Tensor,
    t_BO: Tensor,
    active: Pairs,
    z_N: Tensor,
    weight: Tensor,
    p: Tensor,
    next_p: Tensor,
    ranks: Ranks = ALONE,
) -> Step:
    """Equal to `dense_step`, at the cost of the active pairs."""
    residual_BO, sampled_N = active.reconstruct(z_N, w, t_BO, ranks)
    mse, g_BO = mean_square(residual_BO)
    dpre_N = sampled_N.mul_(2 / residual_BO.numel()).add_(slope(z_N, p) * (weight / len(x_BD)))
    gradients, fired_F = active.gradients(z_N, dpre_N, x_BD, g_BO)
    penalty, next_penalty = (power(z_N, some).sum() / len(x_BD) for some in (p, next_p))
    return Step(
        gradients=gradients,
        loss=mse + weight * penalty,
        reconstruction_loss=mse,
        l0=torch.as_tensor(len(z_N) / len(x_BD), device=x_BD.device),
        l1=z_N.sum() / len(x_BD),
        residual_BO=residual_BO,
        fired_F=fired_F,
        seen={"penalty": penalty, "next_penalty": next_penalty},
    )


def dense_step(
    w: Weights,
    x_BD: Tensor,
    t_BO: Tensor,
    pre_BF: Tensor,
    weight: Tensor,
    p: Tensor,
    next_p: Tensor,
    ranks: Ranks = ALONE,
) -> Step:
    """Loss against target t and its gradients, by hand; `pre_BF` is used up."""
    whole, (penalty, next_penalty) = DenseStep(w, x_BD, t_BO, ranks), x_BD.new_zeros(2)
    for block, pre_RF in whole.blocks(pre_BF):
        z_RF = pre_RF.relu_()
        active_RF, exact_RF = z_RF > 0, z_RF.to(x_BD.dtype)
        # Of latents that are off the power is 0, and the mask takes their slope.
        penalty = penalty + power(exact_RF, p).sum() / len(x_BD)
        next_penalty = next_penalty + power(exact_RF, next_p).sum() / len(x_BD)
        dpre_RF = whole.latent_gradients(block, z_RF)
        dpre_RF.add_(slope(exact_RF, p).mul_(weight / len(x_BD))).mul_(active_RF)
        whole.add(block, z_RF, dpre_RF, active_RF)
    step = whole.step(weight * penalty)
    return replace(step, seen={"penalty": penalty, "next_penalty": next_penalty})
