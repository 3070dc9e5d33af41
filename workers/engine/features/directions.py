"""What a latent's decoder direction does by itself: to the logits, and beside other latents.

Legend of shapes: F latents, O width, V vocabulary, M of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..whole_model import Unembedding

TOKENS = 10
NEIGHBOURS = 8
# Rows of a [block, vocabulary] or [block, F] matrix that may lie in memory at a time.
_BYTES = 128 * 1024 * 1024


@torch.no_grad()
def logit_effects(
    unembedding: Unembedding, W_dec_FO: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Per block of latents: effects and ids of the tokens most promoted, and most suppressed.

    Each [M, TOKENS]; the effect is what one unit of the latent adds to a logit, less the mean over
    the vocabulary, which changes no probability. The final norm's division is left out: see
    `Unembedding`.
    """
    count = min(TOKENS, len(unembedding.W_VD))
    for some in torch.split(W_dec_FO, _rows(len(unembedding.W_VD))):
        effects_MV = unembedding.effects(some).float()
        effects_MV -= effects_MV.mean(1, keepdim=True)
        most, least = effects_MV.topk(count), effects_MV.topk(count, largest=False)
        yield most.values, most.indices, least.values, least.indices


@torch.no_grad()
def neighbours(
    W_dec_FO: Tensor, beat: Callable[[], object] = lambda: None
) -> tuple[Tensor, Tensor]:
    """[F, NEIGHBOURS] cosines with the nearest other decoder rows, and which they are."""
    unit_FO = torch.nn.functional.normalize(W_dec_FO.float(), dim=1)
    count = min(NEIGHBOURS, len(unit_FO) - 1)
    cosines, latents = [], []
    for number, some in enumerate(torch.split(unit_FO, _rows(len(unit_FO)))):
        near_MF = some @ unit_FO.T
        rows = torch.arange(len(some), device=some.device)
        near_MF[rows, rows + number * _rows(len(unit_FO))] = -2
        found = near_MF.topk(count)
        cosines.append(found.values)
        latents.append(found.indices)
        beat()
    return torch.cat(cosines), torch.cat(latents)


def _rows(columns: int) -> int:
    return max(1, _BYTES // (4 * columns))
