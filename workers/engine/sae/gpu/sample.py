"""The gradients at the pairs that carry any: the product g W_decᵀ there, then the activation's."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import tiles
from .compact import Pairs
from .rule import JUMP, Rule, slope


def sample(
    pairs: Pairs, rule: Rule, g_BO: Tensor, W_FO: Tensor, penalty: Tensor
) -> tuple[Tensor, Tensor]:
    """∂L/∂pre at each pair, and of it what crosses the jump (meaningless for other activations).

    `penalty` is a scalar on the device: the penalty's gradient by one latent of one token.
    """
    dpre_N = torch.empty_like(pairs.pre)
    jump_N = torch.empty_like(pairs.pre) if rule.jumps else dpre_N
    B, D_OUT = g_BO.shape
    width = min(tiles.SAMPLE_WIDTH, triton.next_power_of_2(D_OUT))
    _sample[(B,)](
        pairs.overflow,
        pairs.by_token,
        pairs.latents,
        pairs.pre,
        g_BO,
        W_FO,
        penalty,
        dpre_N,
        jump_N,
        rule.floor,
        rule.bandwidth,
        D_OUT,
        pairs.shape[1],
        pairs.per_token,
        KIND=rule.kind,
        PAIRS=tiles.SAMPLE_PAIRS,
        WIDTH=width,
        num_warps=4,
    )
    return dpre_N, jump_N


def sample_reference(
    pairs: Pairs, rule: Rule, g_BO: Tensor, W_FO: Tensor, penalty: Tensor, pre_BF: Tensor
) -> tuple[Tensor, Tensor]:
    """Both as [B, F] matrices."""
    dz_BF = g_BO.float() @ W_FO.float().T
    return rule.slope(dz_BF, pre_BF, float(penalty))


@triton.jit
def _sample(
    overflow_ptr,
    by_token_ptr,
    latents_ptr,
    pre_ptr,
    g_ptr,
    W_ptr,
    penalty_ptr,
    dpre_ptr,
    jump_ptr,
    floor_ptr,
    bandwidth,
    D_OUT,
    F,
    T,
    KIND: tl.constexpr,
    PAIRS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    if tl.load(overflow_ptr) != 0:
        return
    token = tl.program_id(0).to(tl.int64)
    begin, end = tl.load(by_token_ptr + token * T), tl.load(by_token_ptr + (token + 1) * T)
    penalty = tl.load(penalty_ptr)
    for start in range(begin, end, PAIRS):
        place = start + tl.arange(0, PAIRS)
        inside = place < end
        latent = tl.load(latents_ptr + place, mask=inside, other=0).to(tl.int64)
        pre = tl.load(pre_ptr + place, mask=inside, other=0.0)
        products = tl.zeros((PAIRS, WIDTH), tl.float32)
        for block in range(0, D_OUT, WIDTH):
            o = block + tl.arange(0, WIDTH)
            g = tl.load(g_ptr + token * D_OUT + o, mask=o < D_OUT, other=0.0).to(tl.float32)
            mask = inside[:, None] & (o < D_OUT)[None, :]
            rows = tl.load(W_ptr + latent[:, None] * D_OUT + o[None, :], mask=mask, other=0.0)
            products += rows.to(tl.float32) * g[None, :]
        dz = tl.sum(products, 1)
        active = inside
        if KIND == JUMP:
            active = inside & (pre > tl.load(floor_ptr + latent, mask=inside, other=0.0))
        dpre, jump = slope(dz, pre, active, latent, F, inside, penalty, floor_ptr, bandwidth, KIND)
        tl.store(dpre_ptr + place, dpre, mask=inside)
        if KIND == JUMP:
            tl.store(jump_ptr + place, jump, mask=inside)
