"""An SAE as other tools have it: weights that take raw activations and give raw activations.

Legend of shapes: B tokens, D input width, O target width, F latents.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor

from ..language_model import Site
from ..normalize import Normalizer


class Kind(StrEnum):
    """How latents come from pre-activations."""

    RELU = "relu"
    JUMPRELU = "jumprelu"
    TOPK = "topk"


@dataclass(frozen=True)
class SavedSae:
    """z = act(x W_enc + b_enc), ŷ = z W_dec + b_dec (+ x W_skipᵀ), in float32.

    `W_enc` [D, F], `b_enc` [F], `W_dec` [F, O], `b_dec` [O]; `threshold` [F] of a JumpReLU, `k` of
    a TopK, `W_skip` [O, D] of a skip transcoder. `per_token`: x is brought to mean 0 and deviation
    1 for each token, and ŷ back with the moments of x, or of y where `reads` is not `writes`.
    `reads` and `writes` say where in the model; None where the folder does not tell.

    A crosscoder is `across` several places: x, y and with them D and O are their activations side
    by side, each of `width` values, normalized each by itself; `reads` and `writes` are the first.
    `scales` are the factors it was trained with, E‖s x‖ = √width, by which its norms compare.
    """

    kind: Kind
    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    threshold: Tensor | None = None
    k: int | None = None
    W_skip: Tensor | None = None
    per_token: bool = False
    reads: Site | None = None
    writes: Site | None = None
    across: tuple[Site, ...] = ()
    scales: tuple[float, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def d_in(self) -> int:
        return self.W_enc.shape[0]

    @property
    def d_sae(self) -> int:
        return self.W_enc.shape[1]

    @property
    def d_out(self) -> int:
        return self.W_dec.shape[1]

    @property
    def layers(self) -> int:
        """Parts of x, one for each layer."""
        return len(self.across) or 1

    @property
    def width(self) -> int:
        """Of the activations that are read at one place."""
        return self.d_in // self.layers

    @property
    def layer_norms(self) -> Tensor:
        """[F, L], norms of what a latent writes to each layer, as a part of that layer's size."""
        parts_FLD = self.W_dec.view(self.d_sae, self.layers, -1)
        scales = self.scales or (1.0,) * self.layers
        norms_FL: Tensor = parts_FLD.norm(dim=2) * torch.tensor(scales, device=self.W_dec.device)
        return norms_FL

    @property
    def is_transcoder(self) -> bool:
        """Whether what is reconstructed is not what is read."""
        return self.reads != self.writes

    @property
    def skips_by_identity(self) -> bool:
        """Whether its skip connection gives the input itself."""
        return self.W_skip is not None and torch.equal(
            self.W_skip, torch.eye(self.d_in).to(self.W_skip)
        )

    def to(self, device: torch.device) -> SavedSae:
        tensors: dict[str, Any] = {
            name: value.to(device)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return replace(self, **tensors)

    def encode(self, x_BD: Tensor) -> Tensor:
        """z [B, F] of raw activations."""
        return self._activated(self._normalized(x_BD, x_BD).x @ self.W_enc + self.b_enc)

    def reconstruct(self, x_BD: Tensor, y_BO: Tensor) -> tuple[Tensor, Tensor]:
        """z [B, F] and ŷ [B, O]. `y` is looked at only for the scale of a per-token transcoder."""
        normalized = self._normalized(x_BD, y_BO)
        z_BF = self._activated(torch.addmm(self.b_enc, normalized.x, self.W_enc))
        y_hat_BO = torch.addmm(self.b_dec, z_BF, self.W_dec)
        if self.W_skip is not None:
            y_hat_BO = y_hat_BO + normalized.x @ self.W_skip.T
        return z_BF, normalized.restore(y_hat_BO)

    def skip_alone(self, x_BD: Tensor, y_BO: Tensor) -> Tensor | None:
        """What ŷ [B, O] is without latents, by `metrics.py`; None without a skip connection."""
        if self.W_skip is None or self.skips_by_identity:
            return None if self.W_skip is None else x_BD
        normalized = self._normalized(x_BD, y_BO)
        alone: Tensor = normalized.restore(torch.addmm(self.b_dec, normalized.x, self.W_skip.T))
        return alone

    def _normalized(self, x_BD: Tensor, y_BO: Tensor) -> Any:
        method = "layer_norm" if self.per_token else "none"
        shared = self.W_skip is not None or not self.is_transcoder
        return Normalizer(method, shared, layers=self.layers)(x_BD, y_BO)  # type: ignore[arg-type]

    def _activated(self, pre_BF: Tensor) -> Tensor:
        if self.kind is Kind.TOPK:
            assert self.k is not None
            values, indices = pre_BF.topk(min(self.k, self.d_sae), dim=1)
            return torch.zeros_like(pre_BF).scatter_(1, indices, values.relu_())
        if self.kind is Kind.JUMPRELU:
            assert self.threshold is not None
            return pre_BF.relu() * (pre_BF > self.threshold)
        return pre_BF.relu()
