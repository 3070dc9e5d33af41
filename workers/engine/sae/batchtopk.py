"""BatchTopK SAE."""

from __future__ import annotations

from ..config import Plan
from .activation import Activation
from .base import Sae
from .batch import TopOfBatch


class BatchTopK(Sae):
    """BatchTopK SAE (Bussmann, Leask and Nanda 2024, arXiv 2412.06410).

        z = BatchTopK(W_enc x + b_enc)      [B, F], the B · K largest of a batch
        x̂ = z W_dec + b_dec                 [B, D]
        loss = MSE(x̂, x) + auxk_alpha · MSE(ê, e)

    Once trained it is a JumpReLU SAE with one threshold for all latents: z = pre · [pre > θ].
    """

    @staticmethod
    def own_activation(plan: Plan) -> Activation:
        assert plan.k is not None
        return TopOfBatch(plan.k, plan.hyperparameters.auxk_alpha)
