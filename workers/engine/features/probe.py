"""Which latents a text activates, and where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..config.sae_job import SaeJobSpec
from ..failure import TrainingError
from ..opened import Opened
from ..vocabulary import Vocabulary
from .collect import rounded

LATENTS, LATENTS_PER_TOKEN = 24, 5


def probe(spec: SaeJobSpec, progress: Callable[[float, str], None]) -> dict[str, Any]:
    """The text's tokens and its strongest latents; at most one context of it is read.

    `latents`: each {"id", "maximum", "values": one per token}, the strongest first; `strongest`:
    for each token [latent, activation] of its strongest. BOS is read first where the SAE's text
    begins with it, and is not among the tokens. Raises what `Opened` raises.
    """
    progress(0.0, "Loading the model")
    opened = Opened(spec)
    ids, cut = _ids(opened, spec.text)
    z_TF = _latents(opened, ids)
    top = z_TF.amax(0).topk(min(LATENTS, z_TF.shape[1]))
    strongest = z_TF.topk(min(LATENTS_PER_TOKEN, z_TF.shape[1]), dim=1)
    words = Vocabulary(spec.model_path)
    return {
        "tokens": [words[i] for i in ids],
        "cut": cut,
        "latents": [
            {"id": latent, "maximum": rounded(value), "values": _all_rounded(z_TF[:, latent])}
            for latent, value in zip(top.indices.tolist(), top.values.tolist(), strict=True)
            if value > 0
        ],
        "strongest": [
            [[i, rounded(v)] for i, v in zip(ids_K, values_K, strict=True) if v > 0]
            for ids_K, values_K in zip(
                strongest.indices.tolist(), strongest.values.tolist(), strict=True
            )
        ],
    }


def _ids(opened: Opened, text: str) -> tuple[list[int], bool]:
    """The text's ids without BOS, and whether some had to be left out."""
    tokenizer = Vocabulary(opened.spec.model_path).tokenizer
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not ids:
        raise TrainingError("The text is empty: type a few words.")
    m = opened.tokens.manifest
    most = m.context_length - m.bos
    return ids[:most], len(ids) > most


@torch.no_grad()
def _latents(opened: Opened, ids: list[int]) -> Tensor:
    m = opened.tokens.manifest
    lead = [m.bos_id] if m.bos and m.bos_id is not None else []
    ids_1T = torch.tensor([[*lead, *ids]], device=opened.device)
    x_1TD = opened.activations(ids_1T)
    z_TF: Tensor = opened.sae.encode(x_1TD[0, len(lead) :].float())
    return z_TF


def _all_rounded(values_T: Tensor) -> list[float]:
    return [rounded(value) for value in values_T.tolist()]
