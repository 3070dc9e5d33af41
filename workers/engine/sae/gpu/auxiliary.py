"""TopK's auxiliary loss for dead latents, where only the device knows how many there are."""

from __future__ import annotations

import torch
from torch import Tensor

from ..step import Weights, mean_square
from . import dense
from .select import select


def add_auxiliary(
    gradients: Weights,
    x: Tensor,
    W_dec: Tensor,
    pre_BF: Tensor,
    residual_BO: Tensor,
    dead: Tensor,
    auxk_alpha: float,
) -> Tensor:
    """Add the gradients of auxk_alpha · MSE(ê, e) and return its value; `pre_BF` is used up.

    ê is what the K_aux = D/2 strongest dead latents make of what is left over, e = −residual. They
    are too many for lists to pay, so the dense kernels do it; without dead latents they do nothing.
    """
    F = pre_BF.shape[1]
    # One place more than there are latents takes the indices that only fill up.
    dead_F = torch.zeros(F + 1, dtype=torch.bool, device=x.device).index_fill_(0, dead, True)[:F]
    some = dead_F.any()
    wanted = some.to(torch.int32)
    k_aux = dead_F.sum().clamp_max_(residual_BO.shape[1] // 2).to(torch.int32)
    floor_F = torch.full((F,), torch.inf, device=x.device).masked_fill_(dead_F, 0.0)
    rule = select(pre_BF, floor_F, k_aux)
    error_BO = torch.empty_like(residual_BO)
    nothing_O = torch.zeros_like(residual_BO[0])
    dense.decode(wanted, pre_BF, rule, W_dec, nothing_O, -residual_BO, error_BO)
    mse, g_BO = mean_square(error_BO)
    g = (g_BO * auxk_alpha).to(x.dtype)
    dense.decoder_gradient(wanted, pre_BF, rule, g, gradients["W_dec"], add=True)
    b_enc_F, _ = dense.sample(wanted, pre_BF, rule, g, W_dec, torch.zeros_like(mse))
    dense.encoder_gradient(wanted, pre_BF, rule, x, gradients["W_enc"], add=True)
    gradients["b_enc"] = torch.where(some, gradients["b_enc"] + b_enc_F, gradients["b_enc"])
    return (mse * auxk_alpha).masked_fill_(~some, 0.0)
