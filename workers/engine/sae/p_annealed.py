"""P-annealed SAE."""

from __future__ import annotations

from ..config import Plan
from .activation import Activation
from .annealed import Annealed
from .base import Sae


class PAnnealed(Sae):
    """Standard SAE whose penalty turns from L1 towards L0 (Karvonen et al. 2024, arXiv 2408.00113).

        z = ReLU(W_enc x + b_enc)                       [B, F]
        x̂ = z W_dec + b_dec                             [B, D]
        loss = MSE(x̂, x) + l1_alpha · c_t · ‖z‖_p^p     p from 1 to final_p over the run

    c_t keeps the penalty's size while p falls, see `annealed.py`. Once trained it is a
    Standard SAE.
    """

    @staticmethod
    def own_activation(plan: Plan) -> Activation:
        h = plan.hyperparameters
        return Annealed(h.final_p, h.num_steps)
