"""Gated SAE."""

from __future__ import annotations

from ..config import Plan
from .activation import Activation
from .base import Sae
from .gate import Gate


class Gated(Sae):
    """Gated SAE (Rajamanoharan et al. 2024, arXiv 2404.16014).

        gate = W_enc x + b_enc                              [B, F]
        z = [gate > 0] · ReLU(exp(r_mag) ⊙ (W_enc x) + b_mag)
        x̂ = z W_dec + b_dec                                 [B, D]
        loss = MSE(x̂, x) + l1_alpha · L1(ReLU(gate)) + MSE(x̂ by ReLU(gate), x)

    Once trained it is a JumpReLU SAE, see `gate.py`.
    """

    @staticmethod
    def own_activation(plan: Plan) -> Activation:
        return Gate()
