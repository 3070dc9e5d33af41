"""The residual from the active pairs: z W_dec + b_dec − t, reading only the rows that are used."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from . import tiles
from .compact import Pairs


def decode(pairs: Pairs, W_FO: Tensor, b_O: Tensor, t_BO: Tensor, out_BO: Tensor) -> None:
    """Write the residual to `out_BO`, unless the pairs overflowed."""
    B, D_OUT = out_BO.shape
    width = min(tiles.WIDTH, triton.next_power_of_2(D_OUT))
    _decode[(B, tiles.count(D_OUT, width))](
        pairs.overflow,
        pairs.by_token,
        pairs.latents,
        pairs.z,
        W_FO,
        b_O,
        t_BO,
        out_BO,
        D_OUT,
        pairs.per_token,
        PAIRS=tiles.PAIRS,
        WIDTH=width,
        num_warps=4,
    )


def decode_reference(pairs: Pairs, W_FO: Tensor, b_O: Tensor, t_BO: Tensor) -> Tensor:
    return pairs.dense(pairs.z) @ W_FO.float() + b_O - t_BO


@triton.jit
def _decode(
    overflow_ptr,
    by_token_ptr,
    latents_ptr,
    z_ptr,
    W_ptr,
    b_ptr,
    t_ptr,
    out_ptr,
    D_OUT,
    T,
    PAIRS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    if tl.load(overflow_ptr) != 0:
        return
    token = tl.program_id(0).to(tl.int64)
    o = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    begin, end = tl.load(by_token_ptr + token * T), tl.load(by_token_ptr + (token + 1) * T)
    parts = tl.zeros((PAIRS, WIDTH), tl.float32)
    for start in range(begin, end, PAIRS):
        place = start + tl.arange(0, PAIRS)
        z = tl.load(z_ptr + place, mask=place < end, other=0.0)
        latent = tl.load(latents_ptr + place, mask=place < end, other=0).to(tl.int64)
        mask = (place < end)[:, None] & (o < D_OUT)[None, :]
        rows = tl.load(W_ptr + latent[:, None] * D_OUT + o[None, :], mask=mask, other=0.0)
        parts += z[:, None] * rows.to(tl.float32)
    total = tl.sum(parts, 0) + tl.load(b_ptr + o, mask=o < D_OUT, other=0.0)
    total -= tl.load(t_ptr + token * D_OUT + o, mask=o < D_OUT, other=0.0)
    tl.store(out_ptr + token * D_OUT + o, total, mask=o < D_OUT)
