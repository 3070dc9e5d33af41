"""Products over the active (token, latent) pairs only.

Of F latents a few dozen are active at a token, and only those carry gradient: with N pairs in a
batch of B tokens each product costs N / (B · F) of its dense equal, which its docstring names
(ENGINE.md, *Speed*). `values_N` holds what stands at the pairs of a sparse [B, F] matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from .step import Weights

_ROWS_AT_ONCE = 512


@dataclass(frozen=True)
class Pairs:
    """The pattern of a sparse [B, F] matrix, row by row: CSR without values.

    `starts` [B + 1] says where each token's pairs begin in `latents` [N].
    """

    starts: Tensor
    latents: Tensor
    n_latents: int

    @classmethod
    def every(cls, indices_BK: Tensor, n_latents: int) -> Pairs:
        """K pairs at each token."""
        B, K = indices_BK.shape
        starts = torch.arange(B + 1, device=indices_BK.device) * K
        return cls(starts, indices_BK.flatten(), n_latents)

    @classmethod
    def above(cls, pre_BF: Tensor, floor: Tensor | float, most: float) -> Pairs | None:
        """The pairs with pre > floor, a number or [F]; None where they are too many to be worth it.

        `most` is the share of all pairs from which on dense products are faster; the first rows
        tell. It depends on the batch alone, so a resumed run takes the same path. Besides the
        pairs nothing larger than a few hundred rows is allocated.
        """
        found: list[Tensor] = []
        counts: list[Tensor] = []
        for rows_MF in torch.split(pre_BF, _ROWS_AT_ONCE):
            where = (rows_MF > floor).nonzero()
            if not found and len(where) > most * rows_MF.numel():
                return None
            found.append(where[:, 1])
            counts.append(where[:, 0].bincount(minlength=len(rows_MF)))
        starts = F.pad(torch.cat(counts).cumsum(0), (1, 0))
        return cls(starts, torch.cat(found), pre_BF.shape[1])

    @cached_property
    def tokens(self) -> Tensor:
        """[N], the token of each pair."""
        tokens = torch.arange(len(self.starts) - 1, device=self.starts.device)
        return tokens.repeat_interleave(self.starts.diff(), output_size=len(self.latents))

    def gather(self, dense_BF: Tensor) -> Tensor:
        """[N] in float32 or better."""
        values_N = dense_BF[self.tokens, self.latents]
        return values_N.float() if values_N.dtype == torch.bfloat16 else values_N

    def keep(self, chosen_N: Tensor) -> Pairs:
        """Some of the pairs."""
        counts = self.tokens[chosen_N].bincount(minlength=len(self.starts) - 1)
        return Pairs(F.pad(counts.cumsum(0), (1, 0)), self.latents[chosen_N], self.n_latents)

    def decode(self, values_N: Tensor, W_FO: Tensor) -> Tensor:
        """[B, O], equal to `dense_BF @ W_FO`."""
        return F.embedding_bag(
            self.latents, W_FO, self.starts[:-1], per_sample_weights=values_N, mode="sum"
        )

    def sample(self, g_BO: Tensor, W_FO: Tensor) -> Tensor:
        """[N], equal to `(g_BO @ W_FO.T)` at the pairs."""
        if not len(self.latents):
            return g_BO.new_zeros(0)
        if not (g_BO.is_cuda or _has_mkl()):
            return (g_BO @ W_FO.T)[self.tokens, self.latents]
        shape = (len(self.starts) - 1, self.n_latents)
        zeros_N = g_BO.new_zeros(len(self.latents))
        pattern = torch.sparse_csr_tensor(
            self.starts, self.latents, zeros_N, shape, check_invariants=False
        )
        sampled: Tensor = torch.sparse.sampled_addmm(pattern, g_BO, W_FO.T, beta=0.0)
        return sampled.values()

    @cached_property
    def by_latent(self) -> ByLatent:
        order = self.latents.argsort(stable=True)
        starts = F.pad(self.fired().cumsum(0), (1, 0))
        shape = (self.n_latents, len(self.starts) - 1)
        return ByLatent(order, self.tokens[order], starts, shape)

    def fired(self) -> Tensor:
        """[F], the tokens at which each latent is among the pairs."""
        return self.latents.bincount(minlength=self.n_latents)


@dataclass(frozen=True)
class ByLatent:
    """The pairs sorted by latent: the pattern of the transposed [F, B] matrix."""

    order: Tensor
    tokens: Tensor
    starts: Tensor
    shape: tuple[int, int]

    def product(self, values_N: Tensor, m_BO: Tensor) -> Tensor:
        """[F, O], equal to `dense_BF.T @ m_BO`."""
        if not len(values_N):
            return m_BO.new_zeros(self.shape[0], m_BO.shape[1])
        transposed = torch.sparse_csr_tensor(
            self.starts, self.tokens, values_N[self.order], self.shape, check_invariants=False
        )
        return transposed @ m_BO

    def sums(self, values_N: Tensor) -> Tensor:
        """[F], equal to `dense_BF.sum(0)`."""
        return self.product(values_N, values_N.new_ones(self.shape[1], 1)).squeeze(1)


def gradients(
    active: Pairs, z_N: Tensor, carrying: Pairs, dpre_M: Tensor, x_BD: Tensor, g_BO: Tensor
) -> Weights:
    """Of all weights, from z at the active pairs and ∂L/∂pre at those that carry any.

    `x_BD` is the input, `g_BO` the loss's gradient by the reconstruction.
    """
    return {
        "W_enc": carrying.by_latent.product(dpre_M, x_BD),
        "b_enc": carrying.by_latent.sums(dpre_M),
        "W_dec": active.by_latent.product(z_N, g_BO),
        "b_dec": g_BO.sum(0),
    }


def _has_mkl() -> bool:
    """On processors torch samples products only through this library."""
    return bool(torch.backends.mkl.is_available())  # type: ignore[no-untyped-call]
