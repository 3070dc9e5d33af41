"""Per latent: the gradients of its weights, summed over the tokens at which it is active."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .compiled import Array, array, compiled, in_ranges

_PARTS = 64


def gradients(
    starts: Tensor,
    latents_N: Tensor,
    n_latents: int,
    z_N: Tensor,
    dpre_N: Tensor,
    x_BD: Tensor,
    g_BO: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of W_enc [F, D], b_enc [F] and W_dec [F, O], and the tokens [F] at which z is not zero.

    `g_BO` is the loss's gradient by the reconstruction; z and ∂L/∂pre stand at the pairs.
    """
    N, F = len(latents_N), n_latents
    ends, tokens, order = np.empty(F + 1, np.int64), np.empty(N, np.int32), np.empty(N, np.int32)
    _transpose(array(starts), array(latents_N), ends, tokens, order)
    of_W_enc, of_b_enc = x_BD.new_empty(F, x_BD.shape[1]), x_BD.new_empty(F)
    of_W_dec = g_BO.new_empty(F, g_BO.shape[1])
    fired_F = torch.empty(F, dtype=torch.int64)
    # Ranges of latents with about as many pairs each; one that is always active stands alone.
    cuts = np.searchsorted(ends, np.linspace(0, N, _PARTS + 1)).tolist()
    cuts = [0, *cuts[1:-1], F]
    arrays = [array(tensor) for tensor in (z_N, dpre_N, x_BD, g_BO)]
    out = (of_W_enc, of_b_enc, of_W_dec, fired_F)
    in_ranges(_gradients, cuts, ends, tokens, order, *arrays, *(tensor.numpy() for tensor in out))
    return out


@compiled
def _transpose(starts: Array, latents: Array, ends: Array, tokens: Array, order: Array) -> None:
    """Sort the pairs by latent, those of one latent by token; `ends[f]` is where f's begin."""
    ends[:] = 0
    for n in range(len(latents)):
        ends[latents[n] + 1] += 1
    for f in range(len(ends) - 1):
        ends[f + 1] += ends[f]
    place = ends.copy()
    for b in range(len(starts) - 1):
        for n in range(starts[b], starts[b + 1]):
            p = place[latents[n]]
            place[latents[n]] = p + 1
            tokens[p] = b
            order[p] = n


@compiled
def _gradients(
    ends: Array,
    tokens: Array,
    order: Array,
    z: Array,
    dpre: Array,
    x: Array,
    g: Array,
    of_W_enc: Array,
    of_b_enc: Array,
    of_W_dec: Array,
    fired: Array,
    first: int,
    last: int,
) -> None:
    """Four tokens at a time: a latent's rows are read and written once for all of them."""
    active = np.empty(len(x) + 1, np.int64)
    for f in range(first, last):
        start, end = ends[f], ends[f + 1]
        bias = of_b_enc.dtype.type(0)
        row = of_W_enc[f]
        row[:] = 0
        count = 0
        for p in range(start, end):
            bias += dpre[order[p]]
            active[count] = p
            count += z[order[p]] != 0
        of_b_enc[f] = bias
        fired[f] = count
        fours = start + (end - start) // 4 * 4
        for p in range(start, fours, 4):
            a0, a1 = dpre[order[p]], dpre[order[p + 1]]
            a2, a3 = dpre[order[p + 2]], dpre[order[p + 3]]
            x0, x1, x2, x3 = x[tokens[p]], x[tokens[p + 1]], x[tokens[p + 2]], x[tokens[p + 3]]
            for i in range(len(row)):
                row[i] += (a0 * x0[i] + a1 * x1[i]) + (a2 * x2[i] + a3 * x3[i])
        for p in range(fours, end):
            a0, x0 = dpre[order[p]], x[tokens[p]]
            for i in range(len(row)):
                row[i] += a0 * x0[i]
        row = of_W_dec[f]
        row[:] = 0
        for c in range(0, count - 3, 4):
            p0, p1, p2, p3 = active[c], active[c + 1], active[c + 2], active[c + 3]
            z0, z1, z2, z3 = z[order[p0]], z[order[p1]], z[order[p2]], z[order[p3]]
            g0, g1, g2, g3 = g[tokens[p0]], g[tokens[p1]], g[tokens[p2]], g[tokens[p3]]
            for o in range(len(row)):
                row[o] += (z0 * g0[o] + z1 * g1[o]) + (z2 * g2[o] + z3 * g3[o])
        for c in range(count // 4 * 4, count):
            z0, g0 = z[order[active[c]]], g[tokens[active[c]]]
            for o in range(len(row)):
                row[o] += z0 * g0[o]
