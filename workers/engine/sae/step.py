"""What one forward and backward pass yields, shared by all activations."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

Weights = dict[str, Tensor]
"""W_enc [F, D], b_enc [F], W_dec [F, O], b_dec [O].

JumpReLU adds threshold [F], Gated b_mag and r_mag [F], a learned skip W_skip [O, D].
"""


@dataclass(frozen=True)
class Step:
    """Gradients of the loss and the terms it is made of; everything stays on the device.

    `residual_BO` is reconstruction minus target in normalized space. `fired_F` counts tokens.
    `loss` is reconstruction_loss plus the weighted penalty, plus `auxiliary` where a penalty has to
    be told from it. `seen` are means over the tokens that the activation's `observe` wants to know.
    `skip_BO` is what a learned skip gives, x W_skipᵀ.
    """

    gradients: Weights
    loss: Tensor
    reconstruction_loss: Tensor
    l0: Tensor
    l1: Tensor
    residual_BO: Tensor
    fired_F: Tensor
    auxiliary: Tensor | float = 0.0
    seen: Weights = field(default_factory=dict)
    skip_BO: Tensor | None = None


def mean_square(residual_BO: Tensor) -> tuple[Tensor, Tensor]:
    """MSE over tokens and dimensions, and its gradient by the reconstruction."""
    return residual_BO.square().mean(), residual_BO * (2 / residual_BO.numel())
