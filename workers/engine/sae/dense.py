"""The dense products of a step: the encoder's always, the others where many latents are active.

`products` is the dtype of the matrix units: bfloat16 where the hardware multiplies it, None for
the weights' own. Weights, losses and gradients stay in the weights' dtype.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .step import Weights

# Share of active pairs from which on dense products are faster (docs/performance.md).
_BREAK_EVEN = {torch.bfloat16: 0.07, torch.float32: 0.15}


def worth_sparse(products: torch.dtype | None, x_BD: Tensor) -> float:
    """The largest share of active pairs at which a sparse step is the faster one.

    On a GPU none is: to know the pairs' number the host would have to wait for it.
    """
    return -1.0 if x_BD.is_cuda else _BREAK_EVEN.get(products or x_BD.dtype, 0.15)


def pre_activations(w: Weights, x_BD: Tensor, products: torch.dtype | None = None) -> Tensor:
    """W_enc x + b_enc, [B, F] in `products`."""
    dtype = products or x_BD.dtype
    return torch.addmm(w["b_enc"].to(dtype), x_BD.to(dtype), w["W_enc"].to(dtype).T)


def decode(w: Weights, z_BF: Tensor) -> Tensor:
    """z W_dec + b_dec, [B, O]."""
    return (z_BF @ w["W_dec"].to(z_BF.dtype)) + w["b_dec"]


def latent_gradients(w: Weights, g_BO: Tensor, dtype: torch.dtype) -> Tensor:
    """∂L/∂z of all pairs, [B, F] in `dtype`, from the gradient by the reconstruction."""
    return g_BO.to(dtype) @ w["W_dec"].to(dtype).T


def gradients(z_BF: Tensor, dpre_BF: Tensor, x_BD: Tensor, g_BO: Tensor) -> Weights:
    """Of all weights from z and ∂L/∂pre."""
    dtype = z_BF.dtype
    return {
        "W_enc": (dpre_BF.T @ x_BD.to(dtype)).to(x_BD.dtype),
        "b_enc": dpre_BF.sum(0, dtype=x_BD.dtype),
        "W_dec": (z_BF.T @ g_BO.to(dtype)).to(g_BO.dtype),
        "b_dec": g_BO.sum(0),
    }
