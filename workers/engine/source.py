"""What the trainings of a group read: each batch once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import torch

from . import machine
from .activations import Activations, Reader
from .asked import Asked
from .config import RunSpec
from .events import Warned
from .language_model import dtype_name
from .order import Part, Position
from .ranks import Ranks
from .reading import Reading
from .shelf import Shelf
from .stream import Stream

_DTYPES = {dtype_name(dtype): dtype for dtype in (torch.float32, torch.bfloat16)}


class Formats(NamedTuple):
    """In which number format the model computes, and in which its activations are held."""

    computed: torch.dtype
    held: torch.dtype

    @classmethod
    def named(cls, names: Mapping[str, Any]) -> Formats:
        """As `names` of a checkpoint has them."""
        return cls(_DTYPES[names["dtype"]], _DTYPES[names["held"]])

    @property
    def names(self) -> dict[str, str]:
        return {"dtype": dtype_name(self.computed), "held": dtype_name(self.held)}


class Source:
    """The stream of batches, `step` of which have been given, and the reader behind it.

    `warned` is what went wrong with the cache so far; it is no reason to end.
    """

    def __init__(
        self,
        spec: RunSpec,
        asked: Asked,
        formats: Formats,
        stop: Callable[[], bool],
        ranks: Ranks,
        model_room: int | None = None,
    ) -> None:
        """`model_room`: bytes of the language model's weights that may lie on the device."""
        self._asked, self._batch_size = asked, asked.plan.hyperparameters.batch_size
        groups = asked.split.groups
        device = asked.device
        reading = Reading(spec, asked.plan, asked.tokens, groups, device, *formats, model_room)
        self._held_bytes = asked.plan.hyperparameters.held_out_tokens * reading.bytes_per_token
        self._warned: list[Warned] = []
        self._shelf = self._opened(reading)
        self.reader = reading.reader(self._shelf)
        self.stream = Stream(self.reader, asked.order, self._batch_size, stop, ranks)
        self.held_out: Reader | Kept = self.reader
        self.step = 0
        self.cached_fraction: float | None = None

    def close(self) -> None:
        if self._shelf:
            self._shelf.close()

    def begin(
        self, step: int, position: Position, num_steps: int, most_contexts: int | None
    ) -> None:
        """Stand where `step` batches have been read; load the model if there is anything to compute
        up to the last step, by passes that are no larger than they were."""
        self.step, self.stream.position = step, position
        self.reader.forward.go_on(most_contexts)
        ahead = self.stream.groups_ahead((num_steps - step) * self._batch_size)
        ahead.update(self._asked.split.held_out.numbers.tolist())
        stored = self._shelf.groups() if self._shelf else set()
        if ahead - stored:
            self.reader.forward.load()
        self.cached_fraction = len(ahead & stored) / len(ahead) if self._shelf else None

    def next(self) -> Activations:
        """The next batch. Raises `StopRequested`."""
        batch = self.stream.next()
        self.step += 1
        return batch

    def read_ahead(self, num_steps: int) -> AbstractContextManager[None]:
        """Read the next chunk while this one is used, up to the last step."""
        left = (num_steps - self.step) * self._batch_size
        return self.stream.read_ahead(left, self._asked.device)

    @property
    def warned(self) -> Sequence[Warned]:
        if self._shelf:
            self._warned.extend(self._shelf.news(0))
        return self._warned

    @contextmanager
    def held_out_kept(self, readers: int) -> Iterator[None]:
        """Read what is held out once for so many of them, where memory has room for it."""
        left = machine.left_bytes()
        keeps = readers > 1 and (left is None or left > 2 * self._held_bytes)
        self.held_out = Kept(self.reader) if keeps else self.reader
        try:
            yield
        finally:
            self.held_out = self.reader

    def _opened(self, reading: Reading) -> Shelf | None:
        """The part of the cache; a cache that cannot be used costs time and no more."""
        if reading.cache is None:
            return None
        try:
            return reading.shelf(reading.cache)
        except OSError as error:
            message = f"The activation cache cannot be used ({error}); everything is computed."
            self._warned.append(Warned(step=0, code="cache_unusable", message=message))
            return None


class Kept:
    """A reader that keeps what it has read, on the host."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._read: dict[tuple[Part, ...], Activations] = {}

    def read(self, parts: Sequence[Part]) -> Activations:
        """Every usable token of the parts, in order."""
        key = tuple(parts)
        if key not in self._read:
            self._read[key] = self._reader.read(parts).to(torch.device("cpu"))
        return self._read[key].to(self._reader.device)
