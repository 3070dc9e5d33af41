"""How fast a run is, split into reading activations and training on them."""

from __future__ import annotations

import time

import numpy as np

from .activations import Activations
from .stream import Stream


class Clock:
    """Times the logging window.

    A chunk is read at once and used for many steps; each batch is charged its share, so that the
    numbers do not jump with the windows that happen to hold the reading.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._tokens = self._steps = self._contexts = 0
        self._extraction = self._sae = 0.0
        self.restart()

    def restart(self) -> None:
        """Go on timing from now; what was done in between is not counted."""
        self._begun, self._read = time.perf_counter(), self._stream.seconds

    def add(self, batch: Activations) -> None:
        """A step is done."""
        elapsed = time.perf_counter() - self._begun
        self._sae += elapsed - (self._stream.seconds - self._read)
        self._extraction += batch.seconds
        self._tokens += len(batch)
        self._contexts += len(np.unique(batch.contexts))
        self._steps += 1
        self.restart()

    def read(self) -> dict[str, float]:
        """The window's numbers; a new window begins."""
        seconds = self._extraction + self._sae
        found = {
            "tokens_per_second": self._tokens / seconds if seconds else 0.0,
            "extraction_seconds": self._extraction,
            "sae_seconds": self._sae,
            "contexts_per_batch": self._contexts / max(self._steps, 1),
        }
        self._tokens = self._steps = self._contexts = 0
        self._extraction = self._sae = 0.0
        self.restart()
        return found
