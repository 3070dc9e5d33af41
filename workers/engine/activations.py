"""Shuffled batches of activations, read from the language model chunk by chunk.

Shapes: B tokens in a batch, M tokens in a chunk, D width, T positions of a context.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .forward import Forward
from .order import Groups, Indices, Order, Part, Position
from .shelf import Shelf
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
    """Activations of parts of groups, from the shelf where they lie there, else by a forward pass.

    Either way they are the same to the last bit.
    """

    def __init__(
        self,
        tokens: Tokens,
        groups: Groups,
        forward: Forward,
        device: torch.device,
        shelf: Shelf | None = None,
    ) -> None:
        self.tokens, self.groups, self.forward = tokens, groups, forward
        self._device, self._shelf = device, shelf
        self.seconds = 0.0  # all time spent reading so far, and loading the model for it

    def read(self, parts: Sequence[Part], stop: Callable[[], bool] = bool) -> Activations:
        """Every usable token of the parts, in order. Raises `StopRequested` if asked to.

        The `seconds` of what is returned leave out the loading of the model.
        """
        begun, loading = time.perf_counter(), self.forward.loading_seconds
        places = [self._rows(part) for part in parts]
        held = self._gathered(parts, places, stop)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # once a chunk: the time below is then true
        seconds = time.perf_counter() - begun
        self.seconds += seconds
        contexts = np.concatenate([self.groups.read(part) for part in parts])
        counts = np.concatenate([rows.counts for rows in places])
        seconds -= self.forward.loading_seconds - loading
        return Activations(held[0], held[-1], np.repeat(contexts, counts), seconds)

    def _gathered(
        self, parts: Sequence[Part], places: list[_Rows], stop: Callable[[], bool]
    ) -> list[Tensor]:
        """One tensor per site; filled part by part, so that nothing lies in memory twice."""
        held: list[Tensor] = []
        total, filled = sum(rows.stop - rows.start for rows in places), 0
        for part, rows in zip(parts, places, strict=True):
            if stop():
                raise StopRequested
            for index, whole in enumerate(self._group(part.group, rows.of_group)):
                if index == len(held):
                    held.append(whole.new_empty((total, whole.shape[1])))
                taken = whole[rows.start : rows.stop]
                held[index][filled : filled + len(taken)] = taken
            filled += rows.stop - rows.start
        return held

    def _group(self, number: int, n_tokens: int) -> list[Tensor]:
        stored = self._shelf.get(number, n_tokens) if self._shelf else None
        if stored is not None:
            return [tensor.to(self._device) for tensor in stored]
        computed = self.forward.group(number)
        # Passes in halves may have other last bits: other runs must not read those.
        if self._shelf and self.forward.most_contexts is None:
            self._shelf.put(number, computed)
        return computed

    def _rows(self, part: Part) -> _Rows:
        counts = self.tokens.usable(self.groups.whole(part.group)).sum(axis=1)
        ends = np.concatenate([[0], counts.cumsum()])
        start, stop = int(ends[part.start]), int(ends[part.stop])
        return _Rows(start, stop, int(ends[-1]), counts[part.start : part.stop])


@dataclass(frozen=True)
class _Rows:
    """Where a part's tokens lie among those of its group; `counts` are those of each context."""

    start: int
    stop: int
    of_group: int
    counts: Indices


class Stream:
    """Endless batches of B training tokens; goes on from any `Position` exactly."""

    def __init__(
        self, reader: Reader, order: Order, batch_size: int, stop: Callable[[], bool]
    ) -> None:
        self.reader, self.order, self._batch_size = reader, order, batch_size
        self._stop = stop
        self.position = Position()
        self._held: tuple[int, Activations, Indices] | None = None

    def first_chunk(self) -> Activations:
        """The chunk the stream stands in, for estimates before the first batch."""
        return self._chunk(self.position.chunk)[0]

    def groups_ahead(self, n_tokens: int) -> set[int]:
        """The groups that the next so many tokens come from, as if all contexts were full."""
        m, chunk = self.reader.tokens.manifest, self.position.chunk
        left = n_tokens + self.position.offset
        found: set[int] = set()
        while left > 0 and len(found) < len(self.order.side.numbers):
            for part in self.order.parts(chunk):
                found.add(part.group)
                left -= (part.stop - part.start) * (m.context_length - m.bos)
            chunk += 1
        return found

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
            activations = self.reader.read(self.order.parts(chunk), self._stop)
            self._held = (chunk, activations, self.order.shuffle(chunk, len(activations)))
        return self._held[1:]


def forward_tokens(device: torch.device) -> int:
    """Tokens of one forward pass, if a context is not longer."""
    return _FORWARD_TOKENS.get(device.type, 4096)


def group_shape(tokens: Tokens, buffer_tokens: int, device: torch.device) -> tuple[int, int]:
    """Contexts of a group, and groups of a chunk, whose tokens are held together.

    A group is what one forward pass takes, or a whole chunk where that is less. Raises
    `TokenizeError` where no token is usable.
    """
    m = tokens.manifest
    if m.n_usable < 1:
        raise TokenizeError("The tokenization holds nothing but BOS tokens.")
    of_chunk = max(1, buffer_tokens // (m.context_length - m.bos))
    of_pass = max(1, forward_tokens(device) // m.context_length)
    group = min(of_pass, of_chunk)
    return group, of_chunk // group


def _joined(parts: list[Activations]) -> Activations:
    if len(parts) == 1:
        return parts[0]
    x = torch.cat([part.x for part in parts])
    same = parts[0].y is parts[0].x
    y = x if same else torch.cat([part.y for part in parts])
    contexts = np.concatenate([part.contexts for part in parts])
    return Activations(x, y, contexts, sum(part.seconds for part in parts))
