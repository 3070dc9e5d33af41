"""What all architectures share; each says only how it differs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from ..config import Plan
from ..ranks import ALONE, Ranks
from . import cpu, gpu, spanning
from .activation import Activation
from .dense import Products
from .step import Step, Weights


class Sae(ABC):
    """x̂ = act(W_enc x + b_enc) W_dec + b_dec, in normalized space, in float32.

    Of several `ranks` each holds the weights of its own latents, W_skip and b_dec: then `step` is
    one of them all, and `reconstruct` gives what these latents alone do.
    """

    has_skip: ClassVar[bool] = False

    def __init__(
        self,
        weights: Weights,
        activation: Activation,
        products: torch.dtype | None = None,
        layers: int = 1,
        ranks: Ranks = ALONE,
    ) -> None:
        """`products` is the dtype a training step multiplies in; None for the weights' own.

        `layers` are those whose activations stand side by side in input and target.
        """
        self.weights = weights
        self.layers = layers
        self.activation = activation
        self.products = Products(products, ranks)

    @property
    def ranks(self) -> Ranks:
        return self.products.ranks

    @staticmethod
    @abstractmethod
    def own_activation(plan: Plan) -> Activation:
        """The activation that the architecture has where TopK does not replace it."""

    @property
    def learns_skip(self) -> bool:
        return "W_skip" in self.weights

    def skip(self, x_BD: Tensor) -> Tensor:
        """What the skip connection gives, [B, O]: x itself, or x W_skipᵀ where it is learned."""
        return x_BD @ self.weights["W_skip"].T if self.learns_skip else x_BD

    def goal(self, x_BD: Tensor, y_BO: Tensor) -> Tensor:
        """What the latents and b_dec have to explain of the target y."""
        return y_BO - self.skip(x_BD) if self.has_skip else y_BO

    def reconstruct(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Latents z [B, F] and reconstruction [B, O]."""
        z_BF = self.activation.latents(self.weights, x_BD)
        decoded_BO = torch.addmm(self.weights["b_dec"], z_BF, self.weights["W_dec"])
        return z_BF, decoded_BO + self.skip(x_BD) if self.has_skip else decoded_BO

    def step(self, x_BD: Tensor, y_BO: Tensor, coefficient: Tensor, dead: Tensor | None) -> Step:
        """One forward and backward pass; nothing is changed."""
        if self.learns_skip:
            step = self._step_with_skip(x_BD, y_BO, coefficient, dead)
        else:
            goal_BO, w = self.goal(x_BD, y_BO), self.weights
            step = self.activation.step(w, x_BD, goal_BO, coefficient, dead, self.products)
        return step if self.ranks.alone else self._of_all_ranks(step)

    def _of_all_ranks(self, step: Step) -> Step:
        """What a step sums over latents, summed over those of all ranks: the same bits on each."""
        own = (step.loss - step.auxiliary - step.reconstruction_loss, step.l0, step.l1)
        penalty, l0, l1 = self.ranks.sum(torch.stack([term.to(own[0]) for term in own]))
        loss = step.loss  # where there is no penalty, it is of all ranks already
        if self.activation.penalty:
            loss = step.reconstruction_loss + step.auxiliary + penalty
        return replace(step, loss=loss, l0=l0, l1=l1)

    def _step_with_skip(
        self, x_BD: Tensor, y_BO: Tensor, coefficient: Tensor, dead: Tensor | None
    ) -> Step:
        """The same for a learned skip: ∂L/∂W_skip = gᵀ x, with g the MSE's gradient by ŷ.

        What revives dead latents is held to what the reconstruction leaves over, and moves no skip.
        """
        latents_w = {name: weight for name, weight in self.weights.items() if name != "W_skip"}
        W_skip_OD, products = self.weights["W_skip"], self.products
        skip_BO = products.product(x_BD, W_skip_OD.T)
        goal_BO = y_BO - skip_BO
        step = self.activation.step(latents_w, x_BD, goal_BO, coefficient, dead, products)
        g_BO = step.residual_BO * (2 / step.residual_BO.numel())
        step.gradients["W_skip"] = products.product(g_BO.T, x_BD)
        return replace(step, skip_BO=skip_BO)

    def remove_parallel(self, gradients: Weights) -> None:
        """Take out of W_dec's gradient what would only lengthen its rows."""
        if self.layers == 1:
            remove_parallel(gradients, self.weights)
        else:
            spanning.remove_radial(gradients["W_dec"], self.weights["W_dec"], self.layers)

    def project(self) -> None:
        """Back to what the equations assume."""
        project(self.weights, self.layers)

    def observe(self, step: Step) -> None:
        """Tell a step that was taken, once, after the weights have followed it."""
        self.activation.observe(step.seen)

    def is_finite(self) -> bool:
        """Waits for the device."""
        finite = all(bool(weight.isfinite().all()) for weight in self.weights.values())
        return not self.ranks.any(not finite)


def remove_parallel(gradients: Weights, weights: Weights) -> None:
    """Take out of W_dec's gradient what would only lengthen its unit rows."""
    g_FO, W_FO = gradients["W_dec"], weights["W_dec"]
    if W_FO.is_cpu:
        cpu.remove_parallel(g_FO, W_FO)
    elif gpu.usable(W_FO.device):
        gpu.remove_parallel(g_FO, W_FO)
    else:
        g_FO.addcmul_((g_FO * W_FO).sum(1, keepdim=True), W_FO, value=-1)


def project(weights: Weights, layers: int = 1) -> None:
    """Back to what the equations assume: unit rows of W_dec, over layers on average, and θ ≥ 0."""
    W_FO = weights["W_dec"]
    if layers > 1:
        spanning.normalize(W_FO, layers)
    elif W_FO.is_cpu:
        cpu.normalize(W_FO)
    elif gpu.usable(W_FO.device):
        gpu.normalize(W_FO)
    else:
        W_FO.div_(W_FO.norm(dim=1, keepdim=True).clamp_min_(1e-12))
    if "threshold" in weights:
        weights["threshold"].clamp_min_(0)
