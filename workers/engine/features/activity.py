"""How often and how strongly each latent fires: running sums of one pass.

Legend of shapes: B tokens, F latents.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Bins of an activation histogram: halves of powers of two from 2^LOWEST on.
LOWEST, BINS_PER_OCTAVE, BINS = -8, 2, 48


class Activity:
    """Counts, sums and histograms of active latents over tokens."""

    def __init__(self, latents: int, device: torch.device) -> None:
        self.fired_F = torch.zeros(latents, dtype=torch.int64, device=device)
        self.sum_F = torch.zeros(latents, dtype=torch.float64, device=device)
        self.max_F = torch.zeros(latents, device=device)
        self.histogram_FH = torch.zeros((latents, BINS), dtype=torch.int64, device=device)
        self.tokens = 0

    def add(self, z_BF: Tensor) -> None:
        token, latent = z_BF.nonzero(as_tuple=True)
        values = z_BF[token, latent]
        ones = torch.ones_like(latent)
        self.fired_F.index_add_(0, latent, ones)
        self.sum_F += z_BF.sum(0)
        torch.maximum(self.max_F, z_BF.amax(0), out=self.max_F)
        bins = ((values.log2() - LOWEST) * BINS_PER_OCTAVE).long().clamp_(0, BINS - 1)
        self.histogram_FH.view(-1).index_add_(0, latent * BINS + bins, ones)
        self.tokens += len(z_BF)

    @property
    def mean_F(self) -> Tensor:
        """Of the activations that are not 0."""
        return (self.sum_F / self.fired_F.clamp_min(1)).float()
