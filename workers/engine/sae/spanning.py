"""Decoder rows that write to several layers, and the one number that is kept of their norms.

A latent i has a row W_i = [W_i¹ … W_iᴸ], a part for each layer, and N(W_i) = 1/L Σ_l ‖W_iˡ‖ is 1.
Lindsey et al. (2024) leave N free and weigh each latent by it. That is the same: z · N and W / N
give the same reconstruction and the same loss, so one scale per latent may be chosen. Chosen so,
the penalty is the L1 of z, TopK takes the largest z, and of one layer it is a row of norm 1.

How a row is shared out among layers stays free, and so does the norm of the whole: from √L, in
equal parts, to L, all in one layer. Were that norm fixed, as it is for one layer, the penalty would
be blind to the number of layers; of rows with the same whole norm a mean of norms is smallest where
one layer has all of it, which is what makes latents of few layers cheap.

Legend of shapes: F latents, L layers, D width of one, O = L · D.
"""

from __future__ import annotations

import torch
from torch import Tensor

_NOTHING = 1e-12


def norms(W_FO: Tensor, layers: int) -> Tensor:
    """‖W_iˡ‖, [F, L]"""
    found: Tensor = W_FO.view(len(W_FO), layers, -1).norm(dim=2)
    return found


def normalize(W_FO: Tensor, layers: int) -> Tensor:
    """Divide each row by N, in place."""
    return W_FO.div_(norms(W_FO, layers).mean(1, keepdim=True).clamp_min_(_NOTHING))


def remove_radial(g_FO: Tensor, W_FO: Tensor, layers: int) -> None:
    """Make of ∂L/∂W at N(W) = 1 the gradient of L(V / N(V)) by V at V = W, in place.

    That is g − (g · W) ∇N(W), with ∇N(W)ˡ = Wˡ / (L ‖Wˡ‖): nothing of it lengthens the row, since
    ∇N(W) · W = N(W) = 1. Where the penalty rules, g · W tends to −l1_alpha ⟨z⟩, and the second term
    is the pull of the penalty on each layer's norm.
    """
    along_F1 = torch.linalg.vecdot(g_FO, W_FO).unsqueeze(1)
    share_FL = along_F1 / norms(W_FO, layers).clamp_min_(_NOTHING).mul_(layers)
    parts_FLD = W_FO.view(len(W_FO), layers, -1)
    g_FO.view_as(parts_FLD).addcmul_(parts_FLD, share_FL.unsqueeze(2), value=-1)
