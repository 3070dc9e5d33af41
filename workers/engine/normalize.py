"""Bringing activations to a common scale, and reconstructions back.

Shapes: B tokens, D input width, O target width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .config.hyperparameters import Normalization

_EPSILON = 1e-5  # SAELens adds the same to the standard deviation


@dataclass(frozen=True)
class Normalized:
    """Input and target in normalized space; raw = normalized * unit + shift for the target."""

    x: Tensor
    y: Tensor
    unit: Tensor | float
    shift: Tensor | float

    def restore(self, y_hat_BO: Tensor) -> Tensor:
        """A normalized reconstruction in raw space."""
        return y_hat_BO * self.unit + self.shift


@dataclass(frozen=True)
class Normalizer:
    """`none`, `constant_norm` (one factor, E‖s·x‖ = √D) or `layer_norm` (per token).

    `scale_in` and `scale_out` are the factors of input and target. `shared` says that the target
    is brought to the input's scale, as the identity path of a skip SAE needs it; otherwise a
    target has its own statistics. `state.py` settles it.
    """

    method: Normalization
    shared: bool
    scale_in: float = 1.0
    scale_out: float = 1.0

    @classmethod
    def estimate(cls, method: Normalization, shared: bool, x: Tensor, y: Tensor) -> Normalizer:
        """Estimate the constants on raw activations [M, D] and [M, O]."""
        if method != "constant_norm":
            return cls(method, shared)
        scale_in = _constant(x)
        return cls(method, shared, scale_in, scale_in if shared or y is x else _constant(y))

    def __call__(self, x_BD: Tensor, y_BO: Tensor) -> Normalized:
        if self.method == "layer_norm":
            return self._per_token(x_BD, y_BO)
        x = x_BD * self.scale_in
        y = x if y_BO is x_BD else y_BO * self.scale_out
        return Normalized(x, y, 1 / self.scale_out, 0.0)

    def _per_token(self, x_BD: Tensor, y_BO: Tensor) -> Normalized:
        mean, std = _moments(x_BD)
        x = (x_BD - mean) / (std + _EPSILON)
        if y_BO is x_BD:
            return Normalized(x, x, std, mean)
        if not self.shared:
            mean, std = _moments(y_BO)
        return Normalized(x, (y_BO - mean) / (std + _EPSILON), std, mean)


def _constant(activations: Tensor) -> float:
    """s with E‖s·x‖ = √D; 1 where everything is zero."""
    norm = float(activations.float().norm(dim=-1).double().mean())
    return float(activations.shape[-1] ** 0.5 / norm) if norm > 0 else 1.0


def _moments(activations: Tensor) -> tuple[Tensor, Tensor]:
    std, mean = torch.std_mean(activations, dim=-1, keepdim=True)
    return mean, std
