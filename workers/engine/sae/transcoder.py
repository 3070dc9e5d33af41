"""Transcoder SAE."""

from __future__ import annotations

from ..config import Plan
from .activation import Activation
from .base import Sae
from .relu import Relu


class Transcoder(Sae):
    """Transcoder: reads one layer and writes the next (Dunefsky et al. 2024, arXiv 2406.11944).

    z = ReLU(W_enc x + b_enc)       [B, F], x [B, D] from layer n
    ŷ = z W_dec + b_dec             [B, O], y [B, O] from layer n + 1
    loss = MSE(ŷ, y) + l1_alpha · L1(z)
    """

    @staticmethod
    def own_activation(plan: Plan) -> Activation:
        return Relu()
