"""The strongest examples of every latent from one pass over a text, in bounded memory.

Legend of shapes: N contexts, T positions, F latents, K examples of each, W positions around one.
"""

from __future__ import annotations

import torch
from torch import Tensor

EXAMPLES = 20
BEFORE, AFTER = 19, 12
WINDOW = BEFORE + 1 + AFTER


class TopExamples:
    """For each latent the contexts in which it is most active, at most one example of a context.

    `values` [F, K] are the peaks, in descending order, 0 where there are fewer; `context` and
    `position` [F, K] say where; `around` [F, K, W] are the activations from BEFORE positions before
    the peak to AFTER after it, 0 beyond the context's ends.
    """

    def __init__(self, latents: int, device: torch.device, examples: int = EXAMPLES) -> None:
        shape = (latents, examples)
        self.values = torch.zeros(shape, device=device)
        self.context = torch.zeros(shape, dtype=torch.int64, device=device)
        self.position = torch.zeros(shape, dtype=torch.int64, device=device)
        self.around = torch.zeros((*shape, WINDOW), dtype=torch.float16, device=device)

    def add(self, contexts_N: Tensor, z_NTF: Tensor) -> None:
        """Add whole contexts; z is 0 where the SAE sees nothing."""
        peak_NF, position_NF = z_NTF.max(1)
        # Only latents that beat the weakest of what is kept change anything.
        changed_J = (peak_NF > self.values[:, -1]).any(0).nonzero().flatten()
        if not len(changed_J):
            return
        N, K = len(contexts_N), self.values.shape[1]
        peaks_JN = peak_NF[:, changed_J].T
        merged = torch.cat([self.values[changed_J], peaks_JN], 1).topk(K, dim=1)
        old_JK, new_JK = merged.indices.clamp(max=K - 1), (merged.indices - K).clamp(min=0)
        is_new_JK = (merged.indices >= K) & (merged.values > 0)
        found_JK = position_NF[:, changed_J].T.gather(1, new_JK)
        around_JKW = self.around[changed_J].gather(1, old_JK[..., None].expand(-1, -1, WINDOW))
        rows, slots = is_new_JK.nonzero(as_tuple=True)
        around_JKW[rows, slots] = _windows(
            z_NTF, new_JK[rows, slots], found_JK[rows, slots], changed_J[rows]
        )
        contexts_JK = contexts_N.expand(len(changed_J), N).gather(1, new_JK)
        for kept, new in ((self.context, contexts_JK), (self.position, found_JK)):
            kept[changed_J] = torch.where(is_new_JK, new, kept[changed_J].gather(1, old_JK))
        self.values[changed_J], self.around[changed_J] = merged.values, around_JKW


def _windows(z_NTF: Tensor, context: Tensor, position: Tensor, latent: Tensor) -> Tensor:
    """[M, W], the activations of M latents around M positions; float16 ends at 65504."""
    offsets_W = torch.arange(-BEFORE, AFTER + 1, device=z_NTF.device)
    at_MW = position[:, None] + offsets_W
    inside_MW = (at_MW >= 0) & (at_MW < z_NTF.shape[1])
    at_MW = at_MW.clamp(0, z_NTF.shape[1] - 1)
    found_MW = z_NTF[context[:, None], at_MW, latent[:, None]] * inside_MW
    return found_MW.clamp(max=65504).half()
