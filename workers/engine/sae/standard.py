"""Standard SAE."""

from __future__ import annotations

from ..config import Plan
from .activation import Activation
from .base import Sae
from .relu import Relu


class Standard(Sae):
    """Standard SAE (Bricken et al. 2023; trained as in Anthropic's April 2024 update).

    z = ReLU(W_enc x + b_enc)       [B, F]
    x̂ = z W_dec + b_dec             [B, D]
    loss = MSE(x̂, x) + l1_alpha · L1(z)
    """

    @staticmethod
    def own_activation(plan: Plan) -> Activation:
        return Relu()
