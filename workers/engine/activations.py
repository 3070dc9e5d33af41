"""Shuffled batches of activations, read from the language model chunk by chunk.

Shapes: B tokens in a batch, M tokens in a chunk, D width, T positions of a context.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .language_model import LanguageModel
from .order import Indices, Order, Position
from .tokens import TokenizeError, Tokens

# Tokens that one forward pass takes; part of the numerics, so it depends on the device alone.
_FORWARD_TOKENS = {"cpu": 4096, "cuda": 32768}


class StopRequested(Exception):
    """Raised between two forward passes when the run was asked to stop."""


@dataclass(frozen=True)
class Activations:
    """Raw activations of usable tokens: what the SAE reads, and what it is to reconstruct.

    `y` is `x` itself where the target is the layer that is read. `contexts` says where each token
    came from.
    """

    x: Tensor
    y: Tensor
    contexts: Indices
    seconds: float = 0.0

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, index: Indices) -> Activations:
        """The chosen rows in float32."""
        on_device = torch.from_numpy(index).to(self.x.device)
        x = self.x[on_device].float()
        y = x if self.y is self.x else self.y[on_device].float()
        share = self.seconds * len(index) / len(self)
        return Activations(x, y, self.contexts[index], share)

    def split(self, tokens: int) -> Iterator[Activations]:
        """All rows in order, in pieces of at most so many tokens."""
        for start in range(0, len(self), tokens):
            yield self.rows(np.arange(start, min(start + tokens, len(self))))


class Reader:
    """Activations of whole contexts: forward passes, BOS and padding dropped."""

    def __init__(self, model: LanguageModel, tokens: Tokens, device: torch.device) -> None:
        self.tokens, self._model, self._device = tokens, model, device
        at_once = _FORWARD_TOKENS.get(device.type, 4096)
        self._contexts_at_once = max(1, at_once // tokens.manifest.context_length)
        self.seconds = 0.0  # all time spent reading so far

    def read(self, contexts: Indices, stop: Callable[[], bool] = bool) -> Activations:
        """Every usable token of the contexts, in order. Raises `StopRequested` if asked to."""
        begun = time.perf_counter()
        parts = [self._forward(part) for part in self._passes(contexts, stop)]
        x = torch.cat([part[0] for part in parts])
        y = x if len(parts[0]) == 1 else torch.cat([part[1] for part in parts])
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # once a chunk: the time below is then true
        seconds = time.perf_counter() - begun
        self.seconds += seconds
        usable = self.tokens.usable(contexts)
        return Activations(x, y, np.repeat(contexts, usable.sum(axis=1)), seconds)

    def _passes(self, contexts: Indices, stop: Callable[[], bool]) -> Iterator[Indices]:
        for start in range(0, len(contexts), self._contexts_at_once):
            if stop():
                raise StopRequested
            yield contexts[start : start + self._contexts_at_once]

    def _forward(self, contexts: Indices) -> list[Tensor]:
        ids = torch.from_numpy(self.tokens.ids[contexts].astype(np.int64)).to(self._device)
        keep = torch.from_numpy(self.tokens.usable(contexts)).to(self._device)
        return [captured[keep] for captured in self._model.capture(ids)]


class Stream:
    """Endless batches of B training tokens; goes on from any `Position` exactly."""

    def __init__(
        self, reader: Reader, order: Order, batch_size: int, stop: Callable[[], bool]
    ) -> None:
        self._reader, self._order, self._batch_size = reader, order, batch_size
        self._stop = stop
        self.position = Position()
        self._held: tuple[int, Activations, Indices] | None = None

    def first_chunk(self) -> Activations:
        """The chunk the stream stands in, for estimates before the first batch."""
        return self._chunk(self.position.chunk)[0]

    def next(self) -> Activations:
        """The next batch. On `StopRequested` the position is still that of the last batch."""
        if self._stop():
            raise StopRequested
        chunk, offset = self.position.chunk, self.position.offset
        parts, missing = [], self._batch_size
        while missing:
            activations, shuffled = self._chunk(chunk)
            taken = shuffled[offset : offset + missing]
            if len(taken):
                parts.append(activations.rows(taken))
            offset, missing = offset + len(taken), missing - len(taken)
            if offset == len(shuffled):
                chunk, offset = chunk + 1, 0
        self.position = Position(chunk, offset)
        return _joined(parts)

    def _chunk(self, chunk: int) -> tuple[Activations, Indices]:
        if self._held is None or self._held[0] != chunk:
            self._held = None  # free the old chunk before the new one is read
            activations = self._reader.read(self._order.contexts(chunk), self._stop)
            self._held = (chunk, activations, self._order.shuffle(chunk, len(activations)))
        return self._held[1:]


def chunk_contexts(tokens: Tokens, buffer_tokens: int) -> int:
    """Contexts whose tokens are held together. Raises `TokenizeError` where none is usable."""
    m = tokens.manifest
    if m.n_usable < 1:
        raise TokenizeError("The tokenization holds nothing but BOS tokens.")
    return max(1, buffer_tokens // (m.context_length - m.bos))


def _joined(parts: list[Activations]) -> Activations:
    if len(parts) == 1:
        return parts[0]
    x = torch.cat([part.x for part in parts])
    same = parts[0].y is parts[0].x
    y = x if same else torch.cat([part.y for part in parts])
    contexts = np.concatenate([part.contexts for part in parts])
    return Activations(x, y, contexts, sum(part.seconds for part in parts))
