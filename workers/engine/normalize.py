"""Bringing activations to a common scale, and reconstructions back.

Shapes: B tokens, D input width, O target width; of a crosscoder both are L layers of one width,
side by side, and each layer has its own factor or its own moments.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from .config.hyperparameters import Normalization

# One factor, or one for each layer: later layers are larger, and would rule under a common one.
Scale = float | tuple[float, ...]
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
    """`none`, `constant_norm` (one factor a layer, E‖s·x‖ = √D) or `layer_norm` (per token).

    `scale_in` and `scale_out` are the factors of input and target. `shared` says that the target
    is brought to the input's scale, as the identity path of a skip SAE needs it; otherwise a
    target has its own statistics. `state.py` settles it. Of several `layers` the target is what is
    read.
    """

    method: Normalization
    shared: bool
    scale_in: Scale = 1.0
    scale_out: Scale = 1.0
    layers: int = 1

    @classmethod
    def estimate(
        cls, method: Normalization, shared: bool, x: Tensor, y: Tensor, layers: int = 1
    ) -> Normalizer:
        """Estimate the constants on raw activations [M, D] and [M, O]."""
        if method != "constant_norm":
            return cls(method, shared, layers=layers)
        if layers > 1:
            scales = tuple(map(_constant, x.chunk(layers, dim=-1)))
            return cls(method, shared, scales, scales, layers)
        scale_in = _constant(x)
        return cls(method, shared, scale_in, scale_in if shared or y is x else _constant(y))

    def __call__(self, x_BD: Tensor, y_BO: Tensor) -> Normalized:
        if self.method == "layer_norm":
            return self._per_token(x_BD, y_BO) if self.layers == 1 else self._per_layer(x_BD)
        out = factor(self.scale_out, y_BO)
        x = x_BD * factor(self.scale_in, x_BD)
        y = x if y_BO is x_BD else y_BO * out
        return Normalized(x, y, 1 / out, 0.0)

    def _per_token(self, x_BD: Tensor, y_BO: Tensor) -> Normalized:
        mean, std = _moments(x_BD)
        x = (x_BD - mean) / (std + _EPSILON)
        if y_BO is x_BD:
            return Normalized(x, x, std, mean)
        if not self.shared:
            mean, std = _moments(y_BO)
        return Normalized(x, (y_BO - mean) / (std + _EPSILON), std, mean)

    def _per_layer(self, x_BD: Tensor) -> Normalized:
        """Each token's part of each layer by its own moments."""
        parts_BLD = x_BD.view(len(x_BD), self.layers, -1)
        mean, std = (some.expand_as(parts_BLD).reshape_as(x_BD) for some in _moments(parts_BLD))
        x = (x_BD - mean) / (std + _EPSILON)
        return Normalized(x, x, std, mean)


def factor(scale: Scale, like: Tensor) -> Tensor | float:
    """What activations [..., D] like these are multiplied by: a number, or a tensor [D]."""
    if isinstance(scale, tuple):
        return _side_by_side(scale, like.shape[-1], like.dtype, like.device)
    return scale


@lru_cache(maxsize=8)
def _side_by_side(
    scales: tuple[float, ...], width: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Kept: a step must not wait until a GPU has been given its numbers again."""
    each = torch.tensor(scales, dtype=dtype)
    return each.repeat_interleave(width // len(scales)).to(device)


def _constant(activations: Tensor) -> float:
    """s with E‖s·x‖ = √D; 1 where everything is zero."""
    norm = float(activations.float().norm(dim=-1).double().mean())
    return float(activations.shape[-1] ** 0.5 / norm) if norm > 0 else 1.0


def _moments(activations: Tensor) -> tuple[Tensor, Tensor]:
    std, mean = torch.std_mean(activations, dim=-1, keepdim=True)
    return mean, std
