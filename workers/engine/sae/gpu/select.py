"""The k largest positive pre-activations of each token, as a cut between them and the rest.

Positive floats are ordered as their bits are, read as an integer. The cut is the largest such
integer that at least k pre-activations reach; its bits are found one by one from the top, each by
counting. Among equal ones the first latents are taken, so every run takes the same.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import tiles
from .rule import Rule


def select(pre_BF: Tensor, floor_F: Tensor, k: Tensor) -> Rule:
    """The rule under which at most k pairs of a token are active, all with pre > floor ≥ 0.

    `k` is an integer on the device. Where fewer are above the floor the cut is zero.
    """
    B, F = pre_BF.shape
    cut_B = torch.empty(B, device=pre_BF.device)
    last_B = torch.empty(B, dtype=torch.int32, device=pre_BF.device)
    # The bits of float32, of which bfloat16 has only the upper half.
    lowest = 16 if pre_BF.dtype == torch.bfloat16 else 0
    block = min(tiles.SELECTED, triton.next_power_of_2(F))
    _select[(tiles.count(B, tiles.SELECTING),)](
        pre_BF,
        floor_F,
        k,
        cut_B,
        last_B,
        B,
        F,
        LOWEST=lowest,
        TOKENS=tiles.SELECTING,
        BLOCK=block,
        num_warps=8,
    )
    return Rule.top(floor_F, cut_B, last_B)


def select_reference(pre_BF: Tensor, floor_F: Tensor, k: int) -> Tensor:
    """z; among equal pre-activations the choice is torch's own."""
    running_BF = torch.where(pre_BF.float() > floor_F, pre_BF.float(), 0)
    values, indices = running_BF.topk(k, dim=1)
    return torch.zeros_like(running_BF).scatter_(1, indices, values)


@triton.jit
def _keys(pre_ptr, floor_ptr, token, start, B, F, BLOCK: tl.constexpr):
    """The bits of the pre-activations above the floor, 0 for the others."""
    latent = start + tl.arange(0, BLOCK)
    inside = (token < B)[:, None] & (latent < F)[None, :]
    pre = tl.load(pre_ptr + token[:, None] * F + latent[None, :], mask=inside, other=0.0)
    pre = pre.to(tl.float32)
    floor = tl.load(floor_ptr + latent, mask=latent < F, other=0.0)[None, :]
    return tl.where(pre > floor, pre, 0.0).to(tl.int32, bitcast=True)


@triton.jit
def _select(
    pre_ptr,
    floor_ptr,
    k_ptr,
    cut_ptr,
    last_ptr,
    B,
    F,
    LOWEST: tl.constexpr,
    TOKENS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    token = (tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)).to(tl.int64)
    k = tl.load(k_ptr)
    cut = tl.zeros((TOKENS,), tl.int32)
    if k > 0:
        for n in range(0, 31 - LOWEST):
            higher = cut | (1 << (30 - n))
            reaching = tl.zeros((TOKENS, BLOCK), tl.int32)
            for start in range(0, F, BLOCK):
                keys = _keys(pre_ptr, floor_ptr, token, start, B, F, BLOCK)
                reaching += (keys >= higher[:, None]).to(tl.int32)
            cut = tl.where(tl.sum(reaching, 1) >= k, higher, cut)
    larger = tl.zeros((TOKENS, BLOCK), tl.int32)
    for start in range(0, F, BLOCK):
        keys = _keys(pre_ptr, floor_ptr, token, start, B, F, BLOCK)
        larger += (keys > cut[:, None]).to(tl.int32)
    left = k - tl.sum(larger, 1)
    last = tl.full((TOKENS,), -1, tl.int32)
    for start in range(0, F, BLOCK):
        keys = _keys(pre_ptr, floor_ptr, token, start, B, F, BLOCK)
        equal = (keys == cut[:, None]).to(tl.int32)
        taken = (equal > 0) & (tl.cumsum(equal, 1) <= left[:, None])
        latent = start + tl.arange(0, BLOCK)[None, :]
        last = tl.maximum(last, tl.max(tl.where(taken, latent, -1), 1))
        left -= tl.sum(equal, 1)
    # With k = 0 nothing may pass: no pre-activation is above infinity.
    value = tl.where(k > 0, cut.to(tl.float32, bitcast=True), float("inf"))
    tl.store(cut_ptr + token, value, mask=token < B)
    tl.store(last_ptr + token, last, mask=token < B)
