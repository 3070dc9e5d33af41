"""The pass that makes a feature table: one over the text, one over the SAE's own directions.

Legend of shapes: N contexts, T positions, D width, F latents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..config.sae_job import FEATURES_FILE, SaeJobSpec
from ..language_model import dtype_name
from ..opened import Opened
from ..order import Groups, Indices
from ..vocabulary import Vocabulary
from . import activity, table
from .activity import Activity
from .directions import logit_effects, neighbours
from .examples import BEFORE, TopExamples
from .table import Feature

Progress = Callable[[float, str], None]
# Tokens of one forward pass; and how much memory the latents of one block of contexts may take.
_PASS_TOKENS, _LATENT_BYTES = 4096, 128 * 1024 * 1024
# Of the whole, by time on two cores: the text, then logits and neighbours, then the file.
_TEXT, _DIRECTIONS = 0.8, 0.9


@dataclass(frozen=True)
class Found:
    """What one pass over the text left of each latent."""

    examples: TopExamples
    activity: Activity
    contexts: int


def collect_features(spec: SaeJobSpec, progress: Progress) -> dict[str, Any]:
    """Make `features.sqlite` beside the SAE's folder; facts about it.

    Raises what `Opened` raises, `OSError` where the file cannot be written, and what the machine
    does.
    """
    progress(0.0, "Loading the model")
    opened = Opened(spec)
    found = read_text(opened, spec.feature_tokens, progress)
    path = spec.sae_path.with_name(FEATURES_FILE)
    features = _features(opened, found, progress)
    facts = {
        "text": spec.text_name,
        "tokens": found.activity.tokens,
        "contexts": found.contexts,
        "context_length": opened.tokens.manifest.context_length,
        "latents": opened.sae.d_sae,
        "device": opened.device.type,
        "dtype": dtype_name(opened.dtype),
    }
    alive = table.write(path, facts, features)
    return facts | {"latents_alive": alive, "bytes": path.stat().st_size}


@torch.no_grad()
def read_text(opened: Opened, tokens: int, progress: Progress) -> Found:
    """Latents of so many tokens of the text, contexts in the order in which all runs know them."""
    sae, length = opened.sae, opened.tokens.manifest.context_length
    contexts = Groups.of(opened.tokens, 1).contexts[: max(1, tokens // length)]
    examples, counted = TopExamples(sae.d_sae, opened.device), Activity(sae.d_sae, opened.device)
    step = max(1, _PASS_TOKENS // length)
    for start in range(0, len(contexts), step):
        some = contexts[start : start + step]
        for numbers, z_NTF, usable_NT in _latents(opened, some):
            examples.add(torch.from_numpy(numbers).to(opened.device), z_NTF)
            counted.add(z_NTF[usable_NT])
        progress(_TEXT * (start + len(some)) / len(contexts), "Reading the text")
    return Found(examples, counted, len(contexts))


def _latents(opened: Opened, contexts: Indices) -> Iterator[tuple[Indices, Tensor, Tensor]]:
    """Context numbers, z [N, T, F] and what of it the SAE sees, in blocks that fit into memory."""
    sae = opened.sae
    ids, usable_NT, _ = opened.batch(contexts)
    x_NTD = opened.activations(ids)
    N, T = ids.shape
    rows = max(1, _LATENT_BYTES // (4 * T * sae.d_sae))
    for start in range(0, N, rows):
        block = slice(start, start + rows)
        usable = usable_NT[block]
        z_NTF = sae.encode(x_NTD[block].flatten(0, 1).float()).view(*usable.shape, sae.d_sae)
        z_NTF *= usable[..., None]
        yield contexts[block], z_NTF, usable


def _features(opened: Opened, found: Found, progress: Progress) -> Iterator[Feature]:
    """Of every latent that fired, in the order of their numbers."""
    W_dec = opened.sae.W_dec
    beat = partial(progress, _TEXT, "Comparing directions")
    blocks = []
    # Of a crosscoder what it writes to its last layer, the nearest to the logits.
    for block in logit_effects(opened.model.unembedding(), W_dec[:, -opened.sae.width :]):
        blocks.append(block)
        beat()
    effects = [_numpy(torch.cat(part)) for part in zip(*blocks, strict=True)]
    near = [_numpy(tensor) for tensor in neighbours(W_dec, beat)]
    progress(_DIRECTIONS, "Writing")
    yield from _Writer(opened, found, effects, near)


class _Writer:
    """Turns numbers of all latents into one record after the other."""

    def __init__(self, opened: Opened, found: Found, effects: list[Any], near: list[Any]) -> None:
        self._words = Vocabulary(opened.spec.model_path)
        self._ids, self._found = opened.tokens.ids, found
        self._effects, self._near = effects, near
        examples, counted = found.examples, found.activity
        self._values, self._around = _numpy(examples.values), _numpy(examples.around.float())
        self._context, self._position = _numpy(examples.context), _numpy(examples.position)
        self._fired, self._mean = _numpy(counted.fired_F), _numpy(counted.mean_F)
        self._max, self._histogram = _numpy(counted.max_F), _numpy(counted.histogram_FH)
        self._across = [site.layer for site in opened.sae.across]
        norms_FL = opened.sae.layer_norms
        self._shares = _numpy(norms_FL / norms_FL.sum(1, keepdim=True).clamp_min(1e-12))

    def __iter__(self) -> Iterator[Feature]:
        for latent in self._fired.nonzero()[0].tolist():
            yield self._feature(latent)

    def _feature(self, latent: int) -> Feature:
        most, most_ids, least, least_ids = (some[latent] for some in self._effects)
        cosines, others = (some[latent] for some in self._near)
        fired = int(self._fired[latent])
        return Feature(
            id=latent,
            frequency=fired / self._found.activity.tokens,
            fired=fired,
            maximum=rounded(self._max[latent]),
            mean=rounded(self._mean[latent]),
            examples=[self._example(latent, k) for k in self._kept(latent)],
            histogram=_histogram(self._histogram[latent]),
            promotes=[(self._words[i], rounded(e)) for i, e in zip(most_ids, most, strict=True)],
            suppresses=[
                (self._words[i], rounded(e)) for i, e in zip(least_ids, least, strict=True)
            ],
            neighbours=[(int(i), rounded(c)) for i, c in zip(others, cosines, strict=True)],
            shares=[
                (layer, rounded(share))
                for layer, share in zip(self._across, self._shares[latent], strict=False)
            ],
        )

    def _words_with(self, ids: Any, effects: Any) -> list[tuple[str, float]]:
        return [(self._words[i], rounded(e)) for i, e in zip(ids, effects, strict=True)]

    def _kept(self, latent: int) -> list[int]:
        kept: list[int] = self._values[latent].nonzero()[0].tolist()
        return kept

    def _example(self, latent: int, k: int) -> dict[str, Any]:
        context, peak = int(self._context[latent, k]), int(self._position[latent, k])
        first = max(0, peak - BEFORE)
        shown = self._ids[context, first : peak - BEFORE + self._around.shape[2]]
        values = self._around[latent, k, first - peak + BEFORE :][: len(shown)]
        return {
            "tokens": [self._words[int(i)] for i in shown],
            "values": [rounded(value) for value in values],
            "peak": peak - first,
            "context": context,
        }


def _histogram(counts: Any) -> dict[str, Any]:
    """Without the empty bins at both ends."""
    filled = np.flatnonzero(counts)
    first, last = int(filled[0]), int(filled[-1])
    return {
        "start": activity.LOWEST + first / activity.BINS_PER_OCTAVE,
        "per_octave": activity.BINS_PER_OCTAVE,
        "counts": counts[first : last + 1].tolist(),
    }


def _numpy(tensor: Tensor) -> Any:
    return tensor.cpu().numpy()


def rounded(value: Any) -> float:
    """Four significant figures: what is shown, at half the bytes."""
    return float(f"{float(value):.4g}")
