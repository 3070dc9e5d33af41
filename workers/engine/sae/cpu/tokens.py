"""Per token: the reconstruction's error, and the gradient of the loss by each of its latents."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .compiled import Array, array, compiled, in_parts


def reconstruct(
    starts: Tensor, latents_N: Tensor, z_N: Tensor, W_FO: Tensor, b_O: Tensor, t_BO: Tensor
) -> tuple[Tensor, Tensor]:
    """`residual_BO = z W + b − t`, and `residual_BO @ W.T` at the pairs [N].

    Both in one pass: a token's decoder rows are still in the cache when they are read again.
    """
    sampled_N = torch.empty_like(z_N)
    return _run(starts, latents_N, z_N, W_FO, b_O, t_BO, sampled_N), sampled_N


def decode(
    starts: Tensor, latents_N: Tensor, z_N: Tensor, W_FO: Tensor, b_O: Tensor, t_BO: Tensor
) -> Tensor:
    """`z W + b − t` alone, where the whole residual is known only once others have added theirs."""
    return _run(starts, latents_N, z_N, W_FO, b_O, t_BO, z_N[:0])


def _run(
    starts: Tensor,
    latents_N: Tensor,
    z_N: Tensor,
    W_FO: Tensor,
    b_O: Tensor,
    t_BO: Tensor,
    sampled_N: Tensor,
) -> Tensor:
    residual_BO = torch.empty_like(t_BO)
    arrays = [array(tensor) for tensor in (starts, latents_N, z_N, W_FO, b_O, t_BO)]
    in_parts(_reconstruct, len(t_BO), *arrays, residual_BO.numpy(), sampled_N.numpy())
    return residual_BO


@compiled
def _reconstruct(
    starts: Array,
    latents: Array,
    z: Array,
    W: Array,
    b: Array,
    t: Array,
    residual: Array,
    sampled: Array,
    first: int,
    last: int,
) -> None:
    """Four latents at a time: the residual is read and written once for all of them.

    Nothing is sampled where `sampled` has no room.
    """
    O = W.shape[1]  # noqa: E741 (the legend's letter)
    active = np.empty(W.shape[0], np.int64)
    for i in range(first, last):
        start, end = starts[i], starts[i + 1]
        count = 0
        for n in range(start, end):
            active[count] = n
            count += z[n] != 0
        r = residual[i]
        for o in range(O):
            r[o] = b[o] - t[i, o]
        for a in range(0, count - 3, 4):
            n0, n1, n2, n3 = active[a], active[a + 1], active[a + 2], active[a + 3]
            z0, z1, z2, z3 = z[n0], z[n1], z[n2], z[n3]
            w0, w1 = W[latents[n0]], W[latents[n1]]
            w2, w3 = W[latents[n2]], W[latents[n3]]
            for o in range(O):
                r[o] += (z0 * w0[o] + z1 * w1[o]) + (z2 * w2[o] + z3 * w3[o])
        for a in range(count // 4 * 4, count):
            z0, w0 = z[active[a]], W[latents[active[a]]]
            for o in range(O):
                r[o] += z0 * w0[o]
        if len(sampled) == 0:
            continue
        fours = start + (end - start) // 4 * 4
        for n in range(start, fours, 4):
            w0, w1 = W[latents[n]], W[latents[n + 1]]
            w2, w3 = W[latents[n + 2]], W[latents[n + 3]]
            s0 = s1 = s2 = s3 = z.dtype.type(0)
            for o in range(O):
                s0 += r[o] * w0[o]
                s1 += r[o] * w1[o]
                s2 += r[o] * w2[o]
                s3 += r[o] * w3[o]
            sampled[n], sampled[n + 1], sampled[n + 2], sampled[n + 3] = s0, s1, s2, s3
        for n in range(fours, end):
            w0 = W[latents[n]]
            s0 = z.dtype.type(0)
            for o in range(O):
                s0 += r[o] * w0[o]
            sampled[n] = s0
