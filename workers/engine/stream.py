"""Shuffled batches of activations, read chunk by chunk.

Shapes: B tokens in a batch, M tokens in a chunk, D width.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import numpy as np
import torch

from .activations import Activations, Reader, StopRequested
from .ahead import Ahead
from .order import Indices, Order, Position
from .ranks import ALONE, Ranks
from .ranks.exchange import exchanged


class Stream:
    """Endless batches of B training tokens; goes on from any `Position` exactly.

    A chunk is read when its first token is asked for; within `read_ahead`, while the one before it
    is used. The batches are the same. Of several ranks each reads a share of every chunk, and all
    of them have the same batches.
    """

    def __init__(
        self,
        reader: Reader,
        order: Order,
        batch_size: int,
        stop: Callable[[], bool],
        ranks: Ranks = ALONE,
    ) -> None:
        self.reader, self.order, self._batch_size = reader, order, batch_size
        self._stop, self._ranks = stop, ranks
        self.position = Position()
        self.seconds = 0.0  # for which chunks were waited for, loading the model included
        self._held: tuple[int, Activations, Indices] | None = None
        self._ahead: Ahead | None = None
        self._wanted = 0

    @contextmanager
    def read_ahead(self, n_tokens: int, device: torch.device) -> Iterator[None]:
        """Read ahead as far as the next so many tokens need it. Two chunks lie in memory then."""
        self._wanted = n_tokens
        try:
            with closing(Ahead(self._read, device)) as self._ahead:
                yield
        finally:
            self._ahead = None

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
        if self._ranks.agreed(self._stop()):
            raise StopRequested
        chunk, offset = self.position.chunk, self.position.offset
        parts, missing = [], self._batch_size
        while missing:
            wanted = self._wanted - (self._batch_size - missing)
            activations, shuffled = self._chunk(chunk, offset + wanted)
            taken = shuffled[offset : offset + missing]
            if len(taken):
                parts.append(activations.rows(taken))
            del activations  # it may be the next chunk's turn
            offset, missing = offset + len(taken), missing - len(taken)
            if offset == len(shuffled):
                chunk, offset = chunk + 1, 0
        self.position = Position(chunk, offset)
        self._wanted -= self._batch_size
        return _joined(parts)

    def _chunk(self, number: int, wanted: int = 0) -> tuple[Activations, Indices]:
        """A chunk and its shuffle. `wanted` tokens will be asked for from its first one on."""
        if self._held is None or self._held[0] != number:
            begun = time.perf_counter()
            if self._ahead:
                activations = self._whole(number, self._ahead.get)
            else:
                self._held = None  # free the old chunk before the new one is read
                activations = self._whole(number, self._read)
            waited = time.perf_counter() - begun
            self.seconds += waited
            if self._ahead:
                # What a batch is charged is what the steps waited for.
                activations = replace(activations, seconds=waited)
            self._held = (number, activations, self.order.shuffle(number, len(activations)))
        if self._ahead and wanted > len(self._held[1]):
            self._ahead.begin(number + 1)
        return self._held[1:]

    def _whole(self, number: int, read: Callable[[int], Activations]) -> Activations:
        """All of a chunk, of which `read` gives this rank's share."""
        if self._ranks.alone:
            return read(number)
        parts = self.order.parts(number)
        return exchanged(self._ranks, self.reader, parts, lambda: read(number))

    def _read(self, number: int, closed: Callable[[], bool] = bool) -> Activations:
        own = self._ranks.mine(self.order.parts(number))
        return self.reader.read(own, lambda: self._stop() or closed())


def _joined(parts: list[Activations]) -> Activations:
    if len(parts) == 1:
        return parts[0]
    x = torch.cat([part.x for part in parts])
    same = parts[0].y is parts[0].x
    y = x if same else torch.cat([part.y for part in parts])
    contexts = np.concatenate([part.contexts for part in parts])
    return Activations(x, y, contexts, sum(part.seconds for part in parts))
