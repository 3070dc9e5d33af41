"""Latents rescaled so that rows of the decoder have norm 1: what tools that compare SAEs want."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from .refusal import CannotExport
from .sae import Kind, SavedSae

# Of norms that are one number and rounding; SAEBench allows rows as much in float32.
_ROUNDING = 1e-5


def with_unit_rows(sae: SavedSae) -> SavedSae:
    """The same ŷ from latents times n, the norm of their rows: W_enc n, b_enc n, θ n, W_dec / n.

    Rows of zeros stay. Raises `CannotExport` for a TopK with different norms: it takes the largest
    pre-activations, and these would be others; and for a crosscoder, which has a norm per layer.
    """
    if sae.across:
        raise CannotExport(
            "A crosscoder's latent has a norm at each layer, and how they compare is what it says",
            "export it as it is",
        )
    norm_F = _norms(sae)
    scaled: dict[str, Tensor] = {
        "W_enc": sae.W_enc.double() * norm_F,
        "b_enc": sae.b_enc.double() * norm_F,
        "W_dec": sae.W_dec.double() / norm_F[:, None],
    }
    if sae.threshold is not None:
        scaled["threshold"] = sae.threshold.double() * norm_F
    in_float32: dict[str, Any] = {name: value.float() for name, value in scaled.items()}
    return replace(sae, **in_float32)


def _norms(sae: SavedSae) -> Tensor:
    """[F], in float64; all the same number for a TopK, which then takes the same latents."""
    norm_F: Tensor = sae.W_dec.double().norm(dim=1)
    filled = norm_F > 0
    usual: Tensor = norm_F[filled].mean() if filled.any() else norm_F.new_ones(())
    if sae.kind is not Kind.TOPK:
        return norm_F.where(filled, usual)
    if ((norm_F[filled] / usual - 1).abs() > _ROUNDING).any():
        raise CannotExport(
            "The rows of this TopK SAE's decoder have different norms, and with unit norm it would "
            "choose other latents",
            "export it as it is",
        )
    return usual.expand_as(norm_F)
