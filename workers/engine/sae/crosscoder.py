"""Crosscoder."""

from __future__ import annotations

from ..config import Plan
from .activation import Activation
from .base import Sae
from .relu import Relu


class Crosscoder(Sae):
    """Acausal crosscoder (Lindsey et al. 2024, "Sparse Crosscoders for Cross-Layer Features and
    Model Diffing", Transformer Circuits).

        z = ReLU(Σ_l W_encˡ xˡ + b_enc)             [B, F], one set of latents
        x̂ˡ = z W_decˡ + b_decˡ                      [B, D] for each of L layers
        loss = 1/L Σ_l ( MSE(x̂ˡ, xˡ) + l1_alpha · Σ_i z_i ‖W_dec,iˡ‖ )

    x = [x¹ … xᴸ] are the activations of one token at L layers, side by side, and so are the rows
    of W_enc, W_dec [F, L · D] and b_dec. With 1/L Σ_l ‖W_dec,iˡ‖ = 1 the loss is
    MSE + l1_alpha · L1(z), and a step is a Standard one; `spanning.py` says what that constrains,
    and why it costs nothing. The paper sums over layers and dimensions; the mean leaves l1_alpha
    what it is for one layer.
    """

    @staticmethod
    def own_activation(plan: Plan) -> Activation:
        return Relu()
