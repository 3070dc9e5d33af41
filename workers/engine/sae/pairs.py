"""Products over the active (token, latent) pairs only.

With K of F latents active per token these cost K/F of their dense equals, named in each docstring.
`indices_BK` are latents, `values_BK` what stands at them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def decode(indices_BK: Tensor, values_BK: Tensor, W_FO: Tensor) -> Tensor:
    """[B, O], equal to `dense_BF @ W_FO`."""
    return F.embedding_bag(indices_BK, W_FO, per_sample_weights=values_BK, mode="sum")


def at_pairs(indices_BK: Tensor, g_BO: Tensor, W_FO: Tensor) -> Tensor:
    """[B, K], equal to `(g_BO @ W_FO.T).gather(1, indices_BK)`."""
    if not (g_BO.is_cuda or _has_mkl()):
        return (g_BO @ W_FO.T).gather(1, indices_BK)
    B, K = indices_BK.shape
    rows = torch.arange(0, B * K + 1, K, device=g_BO.device)
    zeros = torch.zeros(B * K, dtype=g_BO.dtype, device=g_BO.device)
    pattern = torch.sparse_csr_tensor(
        rows, indices_BK.flatten(), zeros, (B, len(W_FO)), check_invariants=False
    )
    sampled: Tensor = torch.sparse.sampled_addmm(pattern, g_BO, W_FO.T, beta=0.0)
    return sampled.values().view(B, K)


def _has_mkl() -> bool:
    """On processors torch samples products only through this library."""
    return bool(torch.backends.mkl.is_available())  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class ByLatent:
    """The pairs sorted by latent: rows of a sparse [F, B] matrix."""

    order: Tensor
    tokens: Tensor
    starts: Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, indices_BK: Tensor, n_latents: int) -> ByLatent:
        B, K = indices_BK.shape
        flat = indices_BK.flatten()
        order = flat.argsort(stable=True)
        starts = F.pad(flat.bincount(minlength=n_latents).cumsum(0), (1, 0))
        return cls(order, order // K, starts, (n_latents, B))

    def product(self, values_BK: Tensor, m_BO: Tensor) -> Tensor:
        """[F, O], equal to `dense_BF.T @ m_BO`."""
        transposed = torch.sparse_csr_tensor(
            self.starts,
            self.tokens,
            values_BK.flatten()[self.order],
            self.shape,
            check_invariants=False,
        )
        return transposed @ m_BO

    def sums(self, values_BK: Tensor) -> Tensor:
        """[F], equal to `dense_BF.sum(0)`."""
        ones = torch.ones(self.shape[1], 1, dtype=values_BK.dtype, device=values_BK.device)
        return self.product(values_BK, ones).squeeze(1)
