"""A saved SAE evaluated: its own activations on held-out contexts, and the model spliced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..config.sae_job import SaeJobSpec
from ..events import finite
from ..language_model import dtype_name
from ..opened import Opened
from ..order import Indices, Split
from .geometry import geometry
from .quality import quality
from .splice import Splice

Progress = Callable[[float, str], None]

# Tokens on which the model is run to its end where nobody says how many.
_SPLICE_TOKENS = {"cpu": 8192, "cuda": 131_072}
# What one forward pass takes, and how much of logits may lie in memory (four times, while two
# are compared).
_PASS_TOKENS, _LOGITS_BYTES = 4096, 256 * 1024 * 1024
# Held activations are compared with their mean, so all lie in memory: at most so much of them.
_HELD_BYTES = 512 * 1024 * 1024


class Evaluation:
    """One evaluation of one SAE."""

    def __init__(self, spec: SaeJobSpec) -> None:
        """Raises what `Opened` raises."""
        self.spec, self.opened = spec, Opened(spec)
        self.sae = self.opened.sae
        self.tokens, self.model = self.opened.tokens, self.opened.model

    def contexts(self) -> Indices:
        """Held out from training, as many as may lie in memory."""
        width = self.sae.d_in + (0 if self._one_place else self.sae.d_out)
        most = min(self.spec.held_out_tokens, max(1, _HELD_BYTES // (4 * width)))
        return Split.of(self.tokens, most, 1).held_out.contexts

    @property
    def _one_place(self) -> bool:
        return not self.sae.is_transcoder

    def run(self, progress: Progress) -> dict[str, Any]:
        contexts, splice = self.contexts(), Splice()
        held: list[list[Tensor]] = [[], []]
        spliced = self._spliced(contexts)
        for number, batch in enumerate(spliced):
            ids, usable, real = self.opened.batch(batch)
            share = 0.9 * number / len(spliced)
            beat = partial(progress, share, "Splicing")
            seen = splice.add(self.model, self.sae, ids, usable, real, beat)
            self._keep(held, seen, usable)
            progress(0.9 * (number + 1) / len(spliced), "Splicing")
        done = sum(len(batch) for batch in spliced)
        for batch in self._batches(contexts[done:], _PASS_TOKENS):
            ids, usable, _ = self.opened.batch(batch)
            self._keep(held, self._seen(ids), usable)
            progress(0.95, "Reading activations")
        x = torch.cat(held[0])
        y = x if self._one_place else torch.cat(held[1])
        beat = partial(progress, 0.95, "Comparing")
        own, replaced = quality(self.sae, x, y, beat).read(), splice.read()
        found = own | replaced | geometry(self.sae, beat)
        if self.sae.across:
            pairs = zip(own["by_layer"], replaced["by_layer"], strict=True)
            found["by_layer"] = [layer | spliced for layer, spliced in pairs]
        found |= {
            "device": self.opened.device.type,
            "dtype": dtype_name(self.opened.dtype),
        }
        return {name: finite(value) for name, value in found.items()}

    def _spliced(self, contexts: Indices) -> list[Indices]:
        """The contexts on which the model runs to its end, by passes."""
        length = self.tokens.manifest.context_length
        # Passes are one, and two for each place; an SAE has one place.
        usual = _SPLICE_TOKENS.get(self.opened.device.type, 8192) * 3 // (1 + 2 * self.sae.layers)
        tokens = self.spec.splice_tokens or usual
        count = max(1, tokens // length)
        most = max(1, _LOGITS_BYTES // (4 * self.model.vocabulary))
        return list(self._batches(contexts[:count], min(most, _PASS_TOKENS)))

    def _batches(self, contexts: Indices, tokens: int) -> Iterator[Indices]:
        size = max(1, tokens // self.tokens.manifest.context_length)
        for start in range(0, len(contexts), size):
            yield contexts[start : start + size]

    def _seen(self, ids_NT: Tensor) -> list[Tensor]:
        """What the model gives where the SAE reads and, if elsewhere, where it writes."""
        if self._one_place:
            return [self.opened.activations(ids_NT)]
        return self.model.activations(ids_NT, self.opened.sites)

    def _keep(self, held: list[list[Tensor]], seen: list[Tensor], usable_NT: Tensor) -> None:
        """The activations an SAE sees, in memory of the processor."""
        for place, values in zip(held, seen[: 1 if self._one_place else 2], strict=False):
            place.append(values[usable_NT].float().cpu())


def evaluate_saved(spec: SaeJobSpec, progress: Progress) -> dict[str, Any]:
    """All metrics of `quality.py`, `splice.py` and `geometry.py` by name.

    `progress` gets the share that is done and what is being done, between forward passes. Raises
    what `Opened` raises, and what the machine does.
    """
    progress(0.0, "Loading the model")
    return Evaluation(spec).run(progress)
