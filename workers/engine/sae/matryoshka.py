"""Matryoshka BatchTopK SAE."""

from __future__ import annotations

from ..config import Plan
from .activation import Activation
from .base import Sae
from .nested import Nested, doubling


class Matryoshka(Sae):
    """Matryoshka BatchTopK SAE (Bussmann et al. 2025, arXiv 2503.17547).

        z = BatchTopK(W_enc x + b_enc)                  [B, F], the B · K largest of a batch
        x̂_g = z[:m_g] W_dec[:m_g] + b_dec               [B, D], g = 1 … G, m_g = F / 2^(G − g)
        loss = 1/G Σ_g MSE(x̂_g, x) + auxk_alpha · MSE(ê, e)

    So the first latents are the general ones, and latents behind them do not split these up. Once
    trained it is a JumpReLU SAE with one threshold, and x̂ = x̂_G.
    """

    @staticmethod
    def own_activation(plan: Plan) -> Activation:
        assert plan.k is not None
        h = plan.hyperparameters
        return Nested(plan.k, h.auxk_alpha, ends=doubling(plan.d_sae, h.matryoshka_groups))
