"""Skip SAE."""

from __future__ import annotations

from ..config import Plan
from .activation import Activation
from .base import Sae
from .relu import Relu


class Skip(Sae):
    """Skip SAE: the input is added to the output, so the latents explain what changes.

        z = ReLU(W_enc x + b_enc)                   [B, F]
        ŷ = z W_dec + b_dec + x                     [B, D], `skip` identity
        ŷ = z W_dec + b_dec + x W_skipᵀ             [B, O], `skip` learned, W_skip [O, D]
        loss = MSE(ŷ, y) + l1_alpha · L1(z)

    y is the next layer by default. With y = x the SAE is perfect with every latent off. Learned, it
    is the skip transcoder of Paulo et al. 2025, arXiv 2501.18823: the affine part x W_skipᵀ + b_dec
    is trained with the rest, ∂L/∂W_skip = gᵀ x with g = ∂L/∂ŷ. Where it starts: `build.start_at`.
    """

    has_skip = True

    @staticmethod
    def own_activation(plan: Plan) -> Activation:
        return Relu()
