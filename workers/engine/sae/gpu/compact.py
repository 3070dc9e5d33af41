"""The active pairs of a batch as two lists, by token and by latent, in memory of a fixed size.

A pair's place in both is known from the tally: what the tiles before it hold, plus its rank in its
own tile. So nothing is sorted, nothing is added atomically, and the host needs no count.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from . import tiles
from .encode import Tally
from .rule import JUMP, Rule, activity


@dataclass(frozen=True)
class Pairs:
    """N pairs of a [B, F] matrix in lists with room for more; past N they hold anything.

    By token: `latents`, `pre` and `z` (0 where the pair carries gradient but is not active); those
    of token b lie between `by_token[b · T]` and `by_token[(b + 1) · T]`. By latent: `tokens`, and
    `places` in the first lists; those of latent f lie between `by_latent[f · R]` and
    `by_latent[(f + 1) · R]`. `overflow` is 1 where there was no room: then nothing was listed, and
    whoever reads the lists does nothing.
    """

    by_token: Tensor
    latents: Tensor
    pre: Tensor
    z: Tensor
    by_latent: Tensor
    tokens: Tensor
    places: Tensor
    overflow: Tensor
    shape: tuple[int, int]
    per_token: int
    per_latent: int

    def __len__(self) -> int:
        """The room, not N."""
        return len(self.latents)

    def dense(self, values_N: Tensor) -> Tensor:
        """Reference: the values as a [B, F] matrix; waits for the device."""
        B, n_latents = self.shape
        bounds = self.by_token[:: self.per_token].tolist()
        found = values_N.new_zeros(B, n_latents)
        for b in range(B):
            own = slice(bounds[b], bounds[b + 1])
            found[b, self.latents[own].long()] = values_N[own]
        return found


def compact(pre_BF: Tensor, tally: Tally, rule: Rule, room: int) -> Pairs:
    """List the pairs that carry gradient, latents and tokens ascending."""
    (B, n_latents), device = pre_BF.shape, pre_BF.device
    by_token, by_latent = _places(tally.by_token), _places(tally.by_latent)
    numbers = torch.empty(3, max(room, 1), dtype=torch.int32, device=device)
    pre_N = torch.empty(max(room, 1), device=device)
    pairs = Pairs(
        by_token=by_token,
        latents=numbers[0],
        pre=pre_N,
        z=torch.empty_like(pre_N) if rule.jumps else pre_N,
        by_latent=by_latent,
        tokens=numbers[1],
        places=numbers[2],
        overflow=(by_token[-1] > room).to(torch.int32),
        shape=(B, n_latents),
        per_token=tally.by_token.shape[1],
        per_latent=tally.by_latent.shape[1],
    )
    grid = (tiles.count(B, tiles.TOKENS), tiles.count(n_latents, tiles.LATENTS))
    _compact[grid](
        pairs.overflow,
        pre_BF,
        by_token,
        by_latent,
        pairs.latents,
        pairs.pre,
        pairs.z,
        pairs.tokens,
        pairs.places,
        *rule.arguments(),
        B,
        n_latents,
        KIND=rule.kind,
        TOKENS=tiles.TOKENS,
        LATENTS=tiles.LATENTS,
        STRIP=tiles.STRIP,
        num_warps=tiles.STRIP_WARPS,
    )
    return pairs


def _places(counts: Tensor) -> Tensor:
    """Where the pairs of each tile begin; the last one is where all end."""
    return F.pad(counts.flatten().cumsum(0, dtype=torch.int64), (1, 0))


@triton.jit
def _compact(
    overflow_ptr,
    pre_ptr,
    by_token_ptr,
    by_latent_ptr,
    latents_ptr,
    pre_N_ptr,
    z_N_ptr,
    tokens_ptr,
    places_ptr,
    floor_ptr,
    cut_ptr,
    last_ptr,
    bandwidth,
    B,
    F,
    KIND: tl.constexpr,
    TOKENS: tl.constexpr,
    LATENTS: tl.constexpr,
    STRIP: tl.constexpr,
):
    if tl.load(overflow_ptr) != 0:
        return
    r, t = tl.program_id(0), tl.program_id(1)
    T, R = tl.cdiv(F, LATENTS), tl.cdiv(B, TOKENS)
    latent = (t * LATENTS + tl.arange(0, LATENTS)).to(tl.int64)
    # Places fit into 32 bits, as there was room for all of them.
    there = tl.load(by_latent_ptr + latent * R + r, mask=latent < F, other=0).to(tl.int32)
    for start in range(0, TOKENS, STRIP):  # a whole tile would not fit into the registers
        token = (r * TOKENS + start + tl.arange(0, STRIP)).to(tl.int64)
        inside = (token < B)[:, None] & (latent < F)[None, :]
        pre = tl.load(pre_ptr + token[:, None] * F + latent[None, :], mask=inside, other=0.0)
        pre = pre.to(tl.float32)
        reached, active = activity(
            pre, token[:, None], latent[None, :], B, F, floor_ptr, cut_ptr, last_ptr, bandwidth,
            KIND,
        )  # fmt: skip
        ones = reached.to(tl.int32)
        first = tl.load(by_token_ptr + token * T + t, mask=token < B, other=0).to(tl.int32)
        place = first[:, None] + tl.cumsum(ones, 1) - 1
        latents = tl.broadcast_to(latent[None, :].to(tl.int32), (STRIP, LATENTS))
        tl.store(latents_ptr + place, latents, mask=reached)
        tl.store(pre_N_ptr + place, pre, mask=reached)
        if KIND == JUMP:  # the others have z = pre at all their pairs
            tl.store(z_N_ptr + place, tl.where(active, pre, 0.0), mask=reached)
        pair = there[None, :] + tl.cumsum(ones, 0) - 1
        tokens = tl.broadcast_to(token[:, None].to(tl.int32), (STRIP, LATENTS))
        tl.store(tokens_ptr + pair, tokens, mask=reached)
        tl.store(places_ptr + pair, place, mask=reached)
        there += tl.sum(ones, 0)
