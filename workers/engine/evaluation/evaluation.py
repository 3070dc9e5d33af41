"""A saved SAE evaluated: its own activations on held-out contexts, and the model spliced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..config.sae_job import SaeJobSpec
from ..events import finite
from ..failure import TrainingError
from ..language_model import dtype_name, settled_device
from ..model import inspect
from ..order import Indices, Split
from ..saved import SavedSae, open_sae
from ..tokens import Tokens
from ..whole_model import WholeModel
from .geometry import geometry
from .quality import quality
from .splice import Splice, places

Progress = Callable[[float, str], None]

# What one forward pass takes, and how much of logits may lie in memory (four times, while two
# are compared).
_PASS_TOKENS, _LOGITS_BYTES = 4096, 256 * 1024 * 1024
# Held activations are compared with their mean, so all lie in memory: at most so much of them.
_HELD_BYTES = 512 * 1024 * 1024


class Evaluation:
    """What it needs, opened and checked."""

    def __init__(self, spec: SaeJobSpec) -> None:
        """Raises `ModelError`, `TokenizeError`, `UnreadableSae` or `TrainingError`."""
        self.spec, self.device = spec, settled_device(spec.device)
        self.sae = open_sae(spec.sae_path).to(self.device)
        try:
            self.sites = places(self.sae)
        except ValueError as error:
            raise TrainingError(str(error)) from error
        self.tokens = Tokens.open(spec.tokens_path)
        self.dtype = model_dtype(spec, self.device)
        self.model = WholeModel.load(spec.model_path, self.device, self.dtype)
        _check_width(self.sae, self.model)

    def contexts(self) -> Indices:
        """Held out from training, as many as may lie in memory."""
        width = self.sae.d_in + (0 if self._one_place else self.sae.d_out)
        most = min(self.spec.held_out_tokens, max(1, _HELD_BYTES // (4 * width)))
        return Split.of(self.tokens, most, 1).held_out.contexts

    @property
    def _one_place(self) -> bool:
        return self.sites[0] == self.sites[1]

    def run(self, progress: Progress) -> dict[str, Any]:
        contexts, splice = self.contexts(), Splice()
        held: list[list[Tensor]] = [[], []]
        spliced = self._spliced(contexts)
        for number, batch in enumerate(spliced):
            ids, usable, real = self._batch(batch)
            seen = splice.add(self.model, self.sae, ids, usable, real, lambda: None)
            self._keep(held, seen, usable)
            progress(0.9 * (number + 1) / len(spliced), "Splicing")
        done = sum(len(batch) for batch in spliced)
        for batch in self._batches(contexts[done:], _PASS_TOKENS):
            ids, usable, _ = self._batch(batch)
            self._keep(held, self.model.activations(ids, self.sites), usable)
            progress(0.95, "Reading activations")
        x = torch.cat(held[0])
        y = x if self._one_place else torch.cat(held[1])
        found = quality(self.sae, x, y).read() | splice.read() | geometry(self.sae)
        found |= {"device": self.device.type, "dtype": dtype_name(self.dtype)}
        return {name: finite(value) for name, value in found.items()}

    def _spliced(self, contexts: Indices) -> list[Indices]:
        """The contexts on which the model runs to its end, by passes."""
        length = self.tokens.manifest.context_length
        count = max(1, self.spec.splice_tokens // length)
        most = max(1, _LOGITS_BYTES // (4 * self.model.vocabulary))
        return list(self._batches(contexts[:count], min(most, _PASS_TOKENS)))

    def _batches(self, contexts: Indices, tokens: int) -> Iterator[Indices]:
        size = max(1, tokens // self.tokens.manifest.context_length)
        for start in range(0, len(contexts), size):
            yield contexts[start : start + size]

    def _batch(self, contexts: Indices) -> tuple[Tensor, Tensor, Tensor]:
        """Ids, which of them an SAE sees, and which are no padding; each [N, T]."""
        m = self.tokens.manifest
        ids = torch.from_numpy(self.tokens.ids[contexts].astype(np.int64))
        lengths = np.where(contexts == m.n_contexts - 1, m.last_length, m.context_length)
        real = torch.from_numpy(np.arange(m.context_length)[None, :] < lengths[:, None])
        usable = torch.from_numpy(self.tokens.usable(contexts))
        return ids.to(self.device), usable.to(self.device), real.to(self.device)

    def _keep(self, held: list[list[Tensor]], seen: list[Tensor], usable_NT: Tensor) -> None:
        """The activations an SAE sees, in memory of the processor."""
        for place, values in zip(held, seen[: 1 if self._one_place else 2], strict=False):
            place.append(values[usable_NT].float().cpu())


def evaluate_saved(spec: SaeJobSpec, progress: Progress) -> dict[str, Any]:
    """All metrics of `quality.py`, `splice.py` and `geometry.py` by name.

    `progress` gets the share that is done and what is being done, between forward passes. Raises
    what `Evaluation` raises, and what the machine does.
    """
    progress(0.0, "Loading the model")
    return Evaluation(spec).run(progress)


def model_dtype(spec: SaeJobSpec, device: torch.device) -> torch.dtype:
    """float32 on a processor; on a GPU the format in which the model was published."""
    if device.type != "cuda":
        return torch.float32
    name = inspect(spec.model_path).dtype
    return {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(name, torch.float32)


def _check_width(sae: SavedSae, model: WholeModel) -> None:
    if sae.d_in != model.width():
        raise TrainingError(
            f"The SAE reads activations of width {sae.d_in}, and this model's are "
            f"{model.width()} wide: it belongs to another model."
        )
