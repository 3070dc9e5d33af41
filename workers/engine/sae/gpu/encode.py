"""Pre-activations, and how many of them are active where.

The counts come out of the encoder's product while its tiles are still in registers, so that the
active pairs can be written to their places later without sorting. `pre` is written out whole: a
batch that turns out dense needs it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..step import Weights
from . import tiles
from .rule import Rule, activity


@dataclass(frozen=True)
class Tally:
    """Counts over the tiles of a [B, F] matrix: T tiles in a row of it, R in a column.

    `by_token` [B, T] and `by_latent` [F, R] are of pairs that carry gradient, `fired` [F, R] of
    active ones; `l1` [B, T] sums z.
    """

    by_token: Tensor
    by_latent: Tensor
    fired: Tensor
    l1: Tensor

    @classmethod
    def empty(cls, B: int, F: int, device: torch.device) -> Tally:
        T, R = tiles.count(F, tiles.LATENTS), tiles.count(B, tiles.TOKENS)
        by_token = torch.empty(B, T, dtype=torch.int32, device=device)
        by_latent = torch.empty(F, R, dtype=torch.int32, device=device)
        l1 = torch.empty(B, T, device=device)
        return cls(by_token, by_latent, torch.empty_like(by_latent), l1)

    @classmethod
    def reference(cls, pre_BF: Tensor, rule: Rule) -> Tally:
        """What both kernels count."""
        reached, active = rule.reached(pre_BF).int(), rule.active(pre_BF)
        z = pre_BF.float() * active
        return cls(
            torch.stack([part.sum(1) for part in reached.split(tiles.LATENTS, 1)], 1),
            torch.stack([part.sum(0) for part in reached.split(tiles.TOKENS)], 1),
            torch.stack([part.sum(0) for part in active.split(tiles.TOKENS)], 1),
            torch.stack([part.sum(1) for part in z.split(tiles.LATENTS, 1)], 1),
        )


def encode(w: Weights, x_BD: Tensor, rule: Rule) -> tuple[Tensor, Tally]:
    """W_enc x + b_enc in x's dtype, summed in float32, and its tally under the rule."""
    (B, D), F = x_BD.shape, len(w["b_enc"])
    pre_BF = torch.empty(B, F, dtype=x_BD.dtype, device=x_BD.device)
    tally = Tally.empty(B, F, x_BD.device)
    grid = (tiles.count(B, tiles.TOKENS) * tiles.count(F, tiles.LATENTS),)
    _encode[grid](
        x_BD,
        w["W_enc"].to(x_BD.dtype),
        w["b_enc"],
        pre_BF,
        tally.by_token,
        tally.by_latent,
        tally.fired,
        tally.l1,
        *rule.arguments(),
        B,
        D,
        F,
        KIND=rule.kind,
        TOKENS=tiles.TOKENS,
        LATENTS=tiles.LATENTS,
        **tiles.product_options(x_BD.dtype),
    )
    return pre_BF, tally


def encode_reference(w: Weights, x_BD: Tensor) -> Tensor:
    return torch.addmm(w["b_enc"].to(x_BD.dtype), x_BD, w["W_enc"].to(x_BD.dtype).T)


def tally(pre_BF: Tensor, rule: Rule) -> Tally:
    """The tally of pre-activations that are there already."""
    B, F = pre_BF.shape
    found = Tally.empty(B, F, pre_BF.device)
    grid = (tiles.count(B, tiles.TOKENS), tiles.count(F, tiles.LATENTS))
    _tally[grid](
        pre_BF,
        found.by_token,
        found.by_latent,
        found.fired,
        found.l1,
        *rule.arguments(),
        B,
        F,
        KIND=rule.kind,
        TOKENS=tiles.TOKENS,
        LATENTS=tiles.LATENTS,
        num_warps=8,
    )
    return found


@triton.jit
def _encode(
    x_ptr,
    W_ptr,
    b_ptr,
    pre_ptr,
    by_token_ptr,
    by_latent_ptr,
    fired_ptr,
    l1_ptr,
    floor_ptr,
    cut_ptr,
    last_ptr,
    bandwidth,
    B,
    D,
    F,
    KIND: tl.constexpr,
    TOKENS: tl.constexpr,
    LATENTS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    # Tiles of all tokens before those of the next latents: x stays in the cache, W is read once.
    tiles_down = tl.cdiv(B, TOKENS)
    r, t = tl.program_id(0) % tiles_down, tl.program_id(0) // tiles_down
    token = (r * TOKENS + tl.arange(0, TOKENS)).to(tl.int64)
    latent = (t * LATENTS + tl.arange(0, LATENTS)).to(tl.int64)
    total = tl.zeros((TOKENS, LATENTS), tl.float32)
    for start in range(0, D, DEPTH):
        d = start + tl.arange(0, DEPTH)
        x_mask = (token < B)[:, None] & (d < D)[None, :]
        x = tl.load(x_ptr + token[:, None] * D + d[None, :], mask=x_mask, other=0.0)
        W_mask = (d < D)[:, None] & (latent < F)[None, :]
        W = tl.load(W_ptr + latent[None, :] * D + d[:, None], mask=W_mask, other=0.0)
        total = tl.dot(x, W, total, input_precision="ieee")
    total += tl.load(b_ptr + latent, mask=latent < F, other=0.0)[None, :]
    # Counted as stored: who reads pre again must find the same pairs.
    stored = total.to(pre_ptr.dtype.element_ty)
    inside = (token < B)[:, None] & (latent < F)[None, :]
    tl.store(pre_ptr + token[:, None] * F + latent[None, :], stored, mask=inside)
    _count(
        stored.to(tl.float32), r, t, token, latent, by_token_ptr, by_latent_ptr, fired_ptr, l1_ptr,
        floor_ptr, cut_ptr, last_ptr, bandwidth, B, F, KIND, TOKENS, LATENTS,
    )  # fmt: skip


@triton.jit
def _tally(
    pre_ptr,
    by_token_ptr,
    by_latent_ptr,
    fired_ptr,
    l1_ptr,
    floor_ptr,
    cut_ptr,
    last_ptr,
    bandwidth,
    B,
    F,
    KIND: tl.constexpr,
    TOKENS: tl.constexpr,
    LATENTS: tl.constexpr,
):
    r, t = tl.program_id(0), tl.program_id(1)
    token = (r * TOKENS + tl.arange(0, TOKENS)).to(tl.int64)
    latent = (t * LATENTS + tl.arange(0, LATENTS)).to(tl.int64)
    inside = (token < B)[:, None] & (latent < F)[None, :]
    pre = tl.load(pre_ptr + token[:, None] * F + latent[None, :], mask=inside, other=0.0)
    _count(
        pre.to(tl.float32), r, t, token, latent, by_token_ptr, by_latent_ptr, fired_ptr, l1_ptr,
        floor_ptr, cut_ptr, last_ptr, bandwidth, B, F, KIND, TOKENS, LATENTS,
    )  # fmt: skip


@triton.jit
def _count(
    pre,
    r,
    t,
    token,
    latent,
    by_token_ptr,
    by_latent_ptr,
    fired_ptr,
    l1_ptr,
    floor_ptr,
    cut_ptr,
    last_ptr,
    bandwidth,
    B,
    F,
    KIND: tl.constexpr,
    TOKENS: tl.constexpr,
    LATENTS: tl.constexpr,
):
    """Write what one tile adds to a tally."""
    T, R = tl.cdiv(F, LATENTS), tl.cdiv(B, TOKENS)
    reached, active = activity(
        pre, token[:, None], latent[None, :], B, F, floor_ptr, cut_ptr, last_ptr, bandwidth, KIND
    )
    ones = reached.to(tl.int32)
    tl.store(by_token_ptr + token * T + t, tl.sum(ones, 1), mask=token < B)
    tl.store(by_latent_ptr + latent * R + r, tl.sum(ones, 0), mask=latent < F)
    tl.store(fired_ptr + latent * R + r, tl.sum(active.to(tl.int32), 0), mask=latent < F)
    tl.store(l1_ptr + token * T + t, tl.sum(tl.where(active, pre, 0.0), 1), mask=token < B)
