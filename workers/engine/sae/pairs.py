"""A step over the active (token, latent) pairs only.

Of F latents a few dozen are active at a token, and only those carry gradient: with N pairs in a
batch of B tokens each product costs N / (B · F) of its dense equal (ENGINE.md, *Speed*). On a
processor compiled loops do the work (`cpu`); on every other device the torch operations
beside them do, and tests hold the one to the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ranks import ALONE, Ranks
from ..ranks.select import among_largest
from . import cpu
from .step import Weights

_ROWS_AT_ONCE = 512
# So many rows tell about where the largest of a whole batch begin.
_SAMPLE_ROWS = 64


@dataclass(frozen=True)
class Pairs:
    """The pattern of a sparse [B, F] matrix, row by row: CSR without values.

    `starts` [B + 1] says where each token's pairs begin in `latents` [N]. What stands at the pairs
    is passed beside them as `…_N`; it may be zero.
    """

    starts: Tensor
    latents: Tensor
    n_latents: int

    @classmethod
    def top(cls, pre_BF: Tensor, k: int, ranks: Ranks = ALONE) -> tuple[Pairs, Tensor]:
        """The k largest of each row and their values [N], in float32 or better.

        Of several ranks this one's part of them.
        """
        if not ranks.alone:
            pairs, values_N = cls.top(pre_BF, min(k, pre_BF.shape[1]))
            kept_BN = among_largest(values_N.view(len(pre_BF), -1), k, k, ranks)
            kept_N = kept_BN.flatten()
            return pairs.where(kept_N), values_N[kept_N]
        if pre_BF.is_cpu:
            latents_BK, values_BK = cpu.top(pre_BF, k)
        else:
            values_BK, latents_BK = pre_BF.topk(k, dim=1, sorted=False)
        starts = torch.arange(len(pre_BF) + 1, device=pre_BF.device) * k
        return cls(starts, latents_BK.flatten(), pre_BF.shape[1]), _wide(values_BK.flatten())

    @classmethod
    def largest(cls, pre_BF: Tensor, n: int, ranks: Ranks = ALONE) -> tuple[Pairs, Tensor]:
        """The n largest of the whole batch and their values [N], in float32 or better.

        Pairs that are not positive may be left out. Of equal values some are kept. Of several ranks
        this one's part of them.
        """
        if not ranks.alone:
            pairs, values_N = cls.largest(pre_BF, n)
            (kept_N,) = among_largest(values_N[None], n, ranks.most(len(values_N)), ranks)
            return pairs.where(kept_N), values_N[kept_N]
        n = min(n, pre_BF.numel())
        if not pre_BF.is_cpu:
            return _largest(pre_BF, n)
        floor = _guessed(pre_BF, n)
        found = cls.above(pre_BF, floor, 1.0)
        if floor > 0 and found and len(found[1]) < n:
            found = cls.above(pre_BF, 0.0, 1.0)
        assert found is not None  # all pairs are no more than all
        candidates, values_N = found
        if len(values_N) <= n:
            return candidates, values_N
        kept_N = torch.zeros(len(values_N), dtype=torch.bool)
        kept_N[values_N.topk(n, sorted=False).indices] = True
        return candidates.where(kept_N), values_N[kept_N]

    @classmethod
    def above(
        cls, pre_BF: Tensor, floor: Tensor | float, most: float
    ) -> tuple[Pairs, Tensor] | None:
        """The pairs with pre > floor, a number or [F], and their values [N].

        None where they are too many to be worth it: `most` is the share of all pairs from which on
        dense products are faster; the first rows tell. It depends on the batch alone, so a resumed
        run takes the same path. Besides the pairs nothing larger than a few hundred rows is
        allocated.
        """
        if most < 0:
            return None
        if pre_BF.is_cpu:
            found = cpu.above(pre_BF, floor, most)
            return found and (cls(found[0], found[1], pre_BF.shape[1]), found[2])
        return _above(pre_BF, floor, most)

    def where(self, kept_N: Tensor) -> Pairs:
        """Of these pairs those at which `kept_N` is true."""
        before = F.pad(kept_N.cumsum(0), (1, 0))
        return Pairs(before[self.starts], self.latents[kept_N], self.n_latents)

    def block(self, first: int, last: int) -> tuple[Pairs, Tensor]:
        """The pairs of latents `first` to `last`, counted from `first`, and where they are [N]."""
        inside_N = (self.latents >= first) & (self.latents < last)
        found = self.where(inside_N)
        return Pairs(found.starts, found.latents - first, last - first), inside_N

    def reconstruct(
        self, z_N: Tensor, w: Weights, t_BO: Tensor, ranks: Ranks = ALONE
    ) -> tuple[Tensor, Tensor]:
        """`residual_BO = z W_dec + b_dec − t`, and `residual_BO @ W_dec.T` at the pairs [N].

        Over the latents of all ranks; these pairs and W_dec are of this one's.
        """
        W_dec, b_O, t_BO = w["W_dec"], ranks.once(w["b_dec"]), ranks.once(t_BO)
        if z_N.is_cpu and ranks.alone:
            return cpu.reconstruct(self.starts, self.latents, z_N, W_dec, b_O, t_BO)
        if z_N.is_cpu:
            residual_BO = cpu.decode(self.starts, self.latents, z_N, W_dec, b_O, t_BO)
        else:
            residual_BO = self.decode(z_N, W_dec).add_(b_O).sub_(t_BO)
        ranks.sum(residual_BO)
        return residual_BO, self.sample(residual_BO, W_dec)

    def gradients(
        self, z_N: Tensor, dpre_N: Tensor, x_BD: Tensor, g_BO: Tensor
    ) -> tuple[Weights, Tensor]:
        """Of all weights, from z and ∂L/∂pre at the pairs; and the tokens [F] at which z ≠ 0.

        `x_BD` is the input, `g_BO` the loss's gradient by the reconstruction.
        """
        if z_N.is_cpu:
            of_W_enc, of_b_enc, of_W_dec, fired_F = cpu.gradients(
                self.starts, self.latents, self.n_latents, z_N, dpre_N, x_BD, g_BO
            )
        else:
            of_W_enc, of_W_dec = self.product(dpre_N, x_BD), self.product(z_N, g_BO)
            of_b_enc, fired_F = self.sums(dpre_N), self.fired(z_N)
        return {
            "W_enc": of_W_enc,
            "b_enc": of_b_enc,
            "W_dec": of_W_dec,
            "b_dec": g_BO.sum(0),
        }, fired_F

    @cached_property
    def tokens(self) -> Tensor:
        """[N], the token of each pair."""
        tokens = torch.arange(len(self.starts) - 1, device=self.starts.device)
        return tokens.repeat_interleave(self.starts.diff(), output_size=len(self.latents))

    def decode(self, values_N: Tensor, W_FO: Tensor) -> Tensor:
        """[B, O], equal to `dense_BF @ W_FO`."""
        return F.embedding_bag(
            self.latents, W_FO, self.starts[:-1], per_sample_weights=values_N, mode="sum"
        )

    def sample(self, g_BO: Tensor, W_FO: Tensor) -> Tensor:
        """[N], equal to `(g_BO @ W_FO.T)` at the pairs."""
        if g_BO.is_cpu:  # as if g were the error of a reconstruction from nothing
            nothing_N, nothing_O = (g_BO.new_zeros(n) for n in (len(self.latents), g_BO.shape[1]))
            at = self.starts, self.latents, nothing_N
            return cpu.reconstruct(*at, W_FO, nothing_O, -g_BO)[1]
        if not g_BO.is_cuda or not len(self.latents):
            return (g_BO @ W_FO.T)[self.tokens, self.latents]
        shape = (len(self.starts) - 1, self.n_latents)
        zeros_N = g_BO.new_zeros(len(self.latents))
        pattern = torch.sparse_csr_tensor(
            self.starts, self.latents, zeros_N, shape, check_invariants=False
        )
        sampled: Tensor = torch.sparse.sampled_addmm(pattern, g_BO, W_FO.T, beta=0.0)
        return sampled.values()

    def product(self, values_N: Tensor, m_BO: Tensor) -> Tensor:
        """[F, O], equal to `dense_BF.T @ m_BO`."""
        if not len(values_N):
            return m_BO.new_zeros(self.n_latents, m_BO.shape[1])
        order_N, starts = self._by_latent
        transposed = torch.sparse_csr_tensor(
            starts,
            self.tokens[order_N],
            values_N[order_N],
            (self.n_latents, len(m_BO)),
            check_invariants=False,
        )
        return transposed @ m_BO

    def sums(self, values_N: Tensor) -> Tensor:
        """[F], equal to `dense_BF.sum(0)`."""
        if values_N.is_cpu:  # one thread adds in order; a GPU's would race
            return values_N.new_zeros(self.n_latents).index_add_(0, self.latents, values_N)
        ones_B1 = values_N.new_ones(len(self.starts) - 1, 1)
        return self.product(values_N, ones_B1).squeeze(1)

    def fired(self, z_N: Tensor) -> Tensor:
        """[F], the tokens at which each latent is not zero."""
        return self.latents[z_N != 0].bincount(minlength=self.n_latents)

    @cached_property
    def _by_latent(self) -> tuple[Tensor, Tensor]:
        """The pairs in the order of the transposed [F, B] matrix, and where its rows start."""
        counts = self.latents.bincount(minlength=self.n_latents)
        return self.latents.argsort(stable=True), F.pad(counts.cumsum(0), (1, 0))


def _guessed(pre_BF: Tensor, n: int) -> float:
    """A floor above which, by a sample of rows, twice as many pairs lie; no lower than 0."""
    some = pre_BF[:: max(1, len(pre_BF) // _SAMPLE_ROWS)].flatten().float()
    wanted = 2 * n * len(some) // pre_BF.numel()
    if not 0 < wanted < len(some):
        return 0.0
    return max(0.0, float(some.kthvalue(len(some) - wanted).values))


def _largest(pre_BF: Tensor, n: int) -> tuple[Pairs, Tensor]:
    B, F = pre_BF.shape
    values_N, places_N = pre_BF.flatten().topk(n, sorted=False)
    places_N, order_N = places_N.sort()
    rows = torch.arange(B + 1, device=pre_BF.device) * F
    pairs = Pairs(torch.searchsorted(places_N, rows), places_N % F, F)
    return pairs, _wide(values_N[order_N])


def _above(pre_BF: Tensor, floor: Tensor | float, most: float) -> tuple[Pairs, Tensor] | None:
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for rows_MF in torch.split(pre_BF, _ROWS_AT_ONCE):
        where = (rows_MF > floor).nonzero()
        if not parts and len(where) > most * rows_MF.numel():
            return None
        counts = where[:, 0].bincount(minlength=len(rows_MF))
        parts.append((counts, where[:, 1], rows_MF[where[:, 0], where[:, 1]]))
    counts_B, latents_N, values_N = (torch.cat(part) for part in zip(*parts, strict=True))
    pairs = Pairs(F.pad(counts_B.cumsum(0), (1, 0)), latents_N, pre_BF.shape[1])
    return pairs, _wide(values_N)


def _wide(values_N: Tensor) -> Tensor:
    return values_N.float() if values_N.dtype == torch.bfloat16 else values_N
