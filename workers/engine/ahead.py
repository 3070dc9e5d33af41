"""The next chunk, read while the steps on this one go on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from threading import Event

import torch

from .activations import Activations


class Ahead:
    """Reads one chunk in a thread and, on a GPU, in a CUDA stream of its own.

    `read(number, stop)` is called in that thread, for one chunk at a time; its bits do not depend
    on when. Two chunks are in memory then: the one that is read and the one in use.
    """

    def __init__(
        self, read: Callable[[int, Callable[[], bool]], Activations], device: torch.device
    ) -> None:
        self._read, self._closed = read, Event()
        self._thread = ThreadPoolExecutor(1, "read-ahead")
        on_gpu = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if on_gpu else None  # type: ignore[no-untyped-call]
        self._next: tuple[int, Future[Activations]] | None = None

    def close(self) -> None:
        """Give up what is being read, after the group it is at."""
        self._closed.set()
        self._thread.shutdown(cancel_futures=True)

    def begin(self, number: int) -> None:
        """Begin to read this chunk, unless that was begun."""
        if self._next is None or self._next[0] != number:
            self._next = (number, self._thread.submit(self._run, number))

    def get(self, number: int) -> Activations:
        """The chunk, as soon as it is read. Raises what reading it raised."""
        self.begin(number)
        assert self._next is not None
        _, future = self._next
        self._next = None  # a chunk that could not be read is begun anew when it is asked for again
        found = future.result()
        if self._stream:
            # The steps' stream goes on after the reading's, and the memory is theirs until then.
            steps = torch.cuda.current_stream(self._stream.device)
            steps.wait_stream(self._stream)
            for tensor in found.tensors:
                tensor.record_stream(steps)
        return found

    def _run(self, number: int) -> Activations:
        with torch.cuda.stream(self._stream) if self._stream else nullcontext():
            return self._read(number, self._closed.is_set)
