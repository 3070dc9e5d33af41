"""The SAE on contexts that were never trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from .activations import Activations
from .events import finite
from .metrics import Window
from .normalize import Normalizer
from .order import Part, Side
from .sae import Sae

# So few that the latents of all of them take less memory than a training step does.
TOKENS_AT_ONCE = 512
_SAMPLE_TOKENS = 512
# Bins of the density histogram, in powers of ten of the firing frequency.
_DENSITY_FROM, _DENSITY_BINS, _DENSITY_WIDTH = -8.0, 32, 0.25


class Reads(Protocol):
    """Where activations come from."""

    def read(self, parts: Sequence[Part]) -> Activations: ...


@dataclass(frozen=True)
class Evaluation:
    """Metrics on held-out tokens, each latent's firing frequency, and some raw activations."""

    metrics: dict[str, Any]
    frequency_F: Tensor
    sample: Activations


@torch.no_grad()
def evaluate(
    sae: Sae,
    normalizer: Normalizer,
    reader: Reads,
    side: Side,
    most_tokens: int | None,
    beat: Callable[[], object] = lambda: None,
    layers: tuple[int, ...] = (),
) -> Evaluation:
    """Metrics over one side of a split, or over its first groups that hold `most_tokens`.

    `alive` counts latents that fired at least once here. `beat` is called between batches: all of
    it may take an hour, and is no hung run. `layers` are those of a crosscoder.
    """
    w = sae.weights
    window = Window(len(w["b_dec"]), sae.has_skip, w["b_dec"].device, sae.layers)
    fired_F = torch.zeros(len(w["b_enc"]), dtype=torch.int64, device=w["b_enc"].device)
    sample: Activations | None = None
    for part in side.parts():
        group = reader.read([part])
        for batch in group.split(TOKENS_AT_ONCE):
            fired_F += _add(window, sae, normalizer, batch)
            beat()
        sample = sample or next(group.split(_SAMPLE_TOKENS))
        if most_tokens is not None and window.tokens >= most_tokens:
            break
    if sample is None:
        raise ValueError("There are no contexts to evaluate on.")
    frequency_F = fired_F / window.tokens
    metrics = _metrics(window, frequency_F) | (_by_layer(window, layers) if layers else {})
    return Evaluation(metrics, frequency_F, sample)


def _add(window: Window, sae: Sae, normalizer: Normalizer, batch: Activations) -> Tensor:
    normalized = normalizer(batch.x, batch.y)
    z_BF, y_hat_BO = sae.reconstruct(normalized.x)
    residual_BO = y_hat_BO - normalized.y
    fired_F = (z_BF > 0).sum(0)
    mse = residual_BO.square().mean()
    l0, l1 = fired_F.sum() / len(batch), z_BF.sum() / len(batch)
    skip_BO = sae.skip(normalized.x) + sae.weights["b_dec"] if sae.learns_skip else None
    window.add(batch, normalized, residual_BO, [mse, mse, l0, l1], skip_BO)
    return fired_F


def _metrics(window: Window, frequency_F: Tensor) -> dict[str, Any]:
    found = window.read()
    alive = int((frequency_F > 0).sum())
    metrics = {
        "tokens": window.tokens,
        "fvu": found["fvu"],
        "l0": found["l0"],
        "l1": found["l1"],
        "reconstruction_loss": found["reconstruction_loss"],
        "alive": alive,
        "alive_fraction": alive / len(frequency_F),
        "fvu_skip": found.get("fvu_skip"),
        "fvu_latents": found.get("fvu_latents"),
    }
    density = density_histogram(frequency_F)
    return {name: finite(value) for name, value in metrics.items()} | {"density": density}


def _by_layer(window: Window, layers: tuple[int, ...]) -> dict[str, Any]:
    fvus = zip(layers, window.fvu_by_layer(), strict=True)
    return {"by_layer": [{"layer": layer, "fvu": finite(fvu)} for layer, fvu in fvus]}


def density_histogram(frequency_F: Tensor) -> dict[str, Any]:
    """How many latents fire how often, over log10 of the firing frequency; those that never do.

    frequency_F: share of tokens on which each latent fires. Of the bins, `counts[i]` is that of
    frequencies from 10^(start + i * width) on; the last one holds a frequency of 1.
    """
    fires = frequency_F[frequency_F > 0].double().log10()
    place = ((fires - _DENSITY_FROM) / _DENSITY_WIDTH).long().clamp(0, _DENSITY_BINS - 1)
    counts = torch.bincount(place, minlength=_DENSITY_BINS).tolist()
    never = len(frequency_F) - len(fires)
    return {"start": _DENSITY_FROM, "width": _DENSITY_WIDTH, "counts": counts, "never": never}
