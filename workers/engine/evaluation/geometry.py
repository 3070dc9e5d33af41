"""What an SAE's weights say by themselves: how alike its directions are.

Legend of shapes: D input width, O target width, F latents.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..saved import SavedSae

_BLOCK = 2048
_BINS = 40


@torch.no_grad()
def geometry(sae: SavedSae, beat: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """Distributions over latents.

    `max_decoder_cosine`: the largest cosine of a latent's decoder row with any other's; near 1 two
    latents write the same. `encoder_decoder_cosine`: of what a latent reads with what it writes;
    only where both are in the same place, else None.
    """
    same = not sae.is_transcoder and sae.d_in == sae.d_out
    return {
        "max_decoder_cosine": spread(max_cosine(sae.W_dec, beat)) if sae.d_sae > 1 else None,
        "encoder_decoder_cosine": spread(_cosine(sae.W_enc.T, sae.W_dec)) if same else None,
    }


def max_cosine(directions_FO: Tensor, beat: Callable[[], object] = lambda: None) -> Tensor:
    """[F], the largest cosine with any other row; blockwise, so that F² is never held."""
    unit_FO = torch.nn.functional.normalize(directions_FO, dim=1)
    found = []
    for start in range(0, len(unit_FO), _BLOCK):
        cosines_BF = unit_FO[start : start + _BLOCK] @ unit_FO.T
        rows = torch.arange(len(cosines_BF), device=cosines_BF.device)
        cosines_BF[rows, rows + start] = -1
        found.append(cosines_BF.amax(1))
        beat()
    return torch.cat(found)


def _cosine(a_FD: Tensor, b_FD: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(a_FD, b_FD, dim=1)


def spread(values_F: Tensor) -> dict[str, Any]:
    """Mean, median, 99th percentile and largest of cosines, and their histogram over −1 to 1."""
    values = values_F.double().cpu()
    ordered = values.sort().values
    counts = torch.histc(values.clamp(-1, 1), bins=_BINS, min=-1, max=1)
    return {
        "mean": float(values.mean()),
        "median": float(ordered[(len(ordered) - 1) // 2]),
        "p99": float(ordered[round((len(ordered) - 1) * 0.99)]),
        "max": float(ordered[-1]),
        "counts": [int(count) for count in counts],
    }
