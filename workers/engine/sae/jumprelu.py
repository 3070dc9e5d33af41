"""JumpReLU SAE."""

from __future__ import annotations

from ..config import Plan
from .activation import Activation
from .base import Sae
from .jump import Jump


class JumpRelu(Sae):
    """JumpReLU SAE (Rajamanoharan et al. 2024, arXiv 2407.14435).

    z = pre · H(pre − θ), pre = W_enc x + b_enc     [B, F], θ ≥ 0 [F] is learned
    x̂ = z W_dec + b_dec                             [B, D]
    loss = MSE(x̂, x) + l0_alpha · L0(z)
    """

    @staticmethod
    def own_activation(plan: Plan) -> Activation:
        return Jump(plan.hyperparameters.jumprelu_bandwidth)
