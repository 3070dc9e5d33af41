"""The weights' gradients from the active pairs: one program sums one latent's, token after token.

No two programs add to the same number, so a repeated run gives the same bits.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from . import tiles
from .compact import Pairs


def product(pairs: Pairs, values_N: Tensor, m_BD: Tensor, out_FD: Tensor) -> None:
    """Write valuesᵀ m to `out_FD`, every row of it, unless the pairs overflowed."""
    n_latents, D = out_FD.shape
    width = min(tiles.WIDTH, triton.next_power_of_2(D))
    _product[(n_latents, tiles.count(D, width))](
        pairs.overflow,
        pairs.by_latent,
        pairs.tokens,
        pairs.places,
        values_N,
        m_BD,
        out_FD,
        D,
        pairs.per_latent,
        PAIRS=tiles.PAIRS,
        WIDTH=width,
        num_warps=4,
    )


def product_reference(pairs: Pairs, values_N: Tensor, m_BD: Tensor) -> Tensor:
    return pairs.dense(values_N).T @ m_BD.float()


def sums(pairs: Pairs, values_N: Tensor, out_F: Tensor) -> None:
    """Write the sum of each latent's values to `out_F`, unless the pairs overflowed."""
    _sums[(len(out_F),)](
        pairs.overflow,
        pairs.by_latent,
        pairs.places,
        values_N,
        out_F,
        pairs.per_latent,
        PAIRS=128,
        num_warps=1,
    )


def sums_reference(pairs: Pairs, values_N: Tensor) -> Tensor:
    return pairs.dense(values_N).sum(0)


@triton.jit
def _product(
    overflow_ptr,
    by_latent_ptr,
    tokens_ptr,
    places_ptr,
    values_ptr,
    m_ptr,
    out_ptr,
    D,
    R,
    PAIRS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    if tl.load(overflow_ptr) != 0:
        return
    latent = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    begin, end = tl.load(by_latent_ptr + latent * R), tl.load(by_latent_ptr + (latent + 1) * R)
    parts = tl.zeros((PAIRS, WIDTH), tl.float32)
    for start in range(begin, end, PAIRS):
        pair = start + tl.arange(0, PAIRS)
        token = tl.load(tokens_ptr + pair, mask=pair < end, other=0).to(tl.int64)
        place = tl.load(places_ptr + pair, mask=pair < end, other=0)
        value = tl.load(values_ptr + place, mask=pair < end, other=0.0)
        mask = (pair < end)[:, None] & (d < D)[None, :]
        rows = tl.load(m_ptr + token[:, None] * D + d[None, :], mask=mask, other=0.0)
        parts += value[:, None] * rows.to(tl.float32)
    tl.store(out_ptr + latent * D + d, tl.sum(parts, 0), mask=d < D)


@triton.jit
def _sums(
    overflow_ptr,
    by_latent_ptr,
    places_ptr,
    values_ptr,
    out_ptr,
    R,
    PAIRS: tl.constexpr,
):
    if tl.load(overflow_ptr) != 0:
        return
    latent = tl.program_id(0).to(tl.int64)
    begin, end = tl.load(by_latent_ptr + latent * R), tl.load(by_latent_ptr + (latent + 1) * R)
    total = tl.zeros((PAIRS,), tl.float32)
    for start in range(begin, end, PAIRS):
        pair = start + tl.arange(0, PAIRS)
        place = tl.load(places_ptr + pair, mask=pair < end, other=0)
        total += tl.load(values_ptr + place, mask=pair < end, other=0.0)
    tl.store(out_ptr + latent, tl.sum(total))
