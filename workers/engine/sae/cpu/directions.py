"""Rows of the decoder as directions: unit length, and gradients at right angles to them."""

from __future__ import annotations

from torch import Tensor

from .compiled import Array, array, compiled, in_parts

_SMALLEST = 1e-12


def remove_parallel(g_FO: Tensor, W_FO: Tensor) -> None:
    """`g −= (g · W) W` in each row, in one pass."""
    in_parts(_remove_parallel, len(W_FO), array(g_FO), array(W_FO))


def normalize(W_FO: Tensor) -> None:
    """Divide each row by its norm, or by 1e-12 if that is more."""
    in_parts(_normalize, len(W_FO), array(W_FO))


@compiled
def _remove_parallel(g: Array, W: Array, first: int, last: int) -> None:
    for f in range(first, last):
        a, w = g[f], W[f]
        along = W.dtype.type(0)
        for o in range(len(w)):
            along += a[o] * w[o]
        for o in range(len(w)):
            a[o] -= along * w[o]


@compiled
def _normalize(W: Array, first: int, last: int) -> None:
    for f in range(first, last):
        w = W[f]
        square = W.dtype.type(0)
        for o in range(len(w)):
            square += w[o] * w[o]
        scale = W.dtype.type(1 / max(square**0.5, _SMALLEST))
        for o in range(len(w)):
            w[o] *= scale
