"""Checkpoints written beside the training, so that it hardly waits for the disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from . import checkpoint, machine
from .checkpoint import Saved
from .events import CheckpointSaved

log = logging.getLogger(__name__)


class Saver:
    """Copies a state and writes the copy in a thread of its own, one at a time.

    At most one copy lies in memory: a checkpoint that is due while the one before is still being
    written waits for it. Where other processes have left no memory for a copy, training waits for
    the writing: better slow than ended by the system. What went wrong in the thread is raised in
    `begin`, `done` or `wait`.
    """

    def __init__(self, folder: Path, beat: Callable[[], object] = lambda: None) -> None:
        """`beat` is called about once a second while one is waited for."""
        self._folder, self._beat = folder, beat
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._locked: dict[str, Tensor] = {}
        self._writing: Future[CheckpointSaved] | None = None

    def __enter__(self) -> Saver:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is saved any more; what is being written is waited for."""
        self._thread.shutdown()

    def begin(
        self,
        step: int,
        tensors: dict[str, Tensor],
        numbers: dict[str, Any],
        fvu: float | None,
        *,
        copied: bool = False,
    ) -> Iterator[CheckpointSaved]:
        """Have this state written; yields the one that had to be waited for.

        `copied`: nobody writes into these tensors.
        """
        begun = time.perf_counter()
        yield from self.wait()
        room = copied or self._room_for_a_copy(tensors)
        # Copies even on the processor: the steps to come write into these tensors and lists.
        copies = tensors
        if not copied:
            copies = {name: self._copied(name, value, room) for name, value in tensors.items()}
        if self._locked:
            torch.cuda.synchronize()
        numbers = deepcopy(numbers)
        stalled = time.perf_counter() - begun
        self._writing = self._thread.submit(self._write, step, copies, numbers, fvu, stalled)
        if not room:
            log.warning("Memory is short: training waits while the checkpoint is written.")
            (saved,) = self.wait()
            yield replace(saved, stalled_seconds=time.perf_counter() - begun)

    def _copied(self, name: str, value: Tensor, room: bool) -> Tensor:
        """The value on the host, where one from a GPU has arrived once the device was waited for.

        What a GPU copies to must be locked in memory to be fast; locking takes as long as a slow
        copy, so that such memory is kept for the checkpoints to come.
        """
        if not value.is_cuda or not room:
            return value.detach().to("cpu", copy=room)
        host = self._kept(name, value)
        if host is None:
            try:
                host = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
            except RuntimeError as error:  # the system locks no more
                log.warning("Memory cannot be locked, so checkpoints take longer: %s", error)
                return value.detach().to("cpu", copy=True)
            self._locked[name] = host
        return host.copy_(value.detach(), non_blocking=True)

    def _kept(self, name: str, value: Tensor) -> Tensor | None:
        """Locked memory of an earlier checkpoint that this tensor fits."""
        host = self._locked.get(name)
        fits = host is not None and host.shape == value.shape and host.dtype == value.dtype
        return host if fits else None

    def _room_for_a_copy(self, tensors: dict[str, Tensor]) -> bool:
        left = machine.left_bytes()
        new = [value for name, value in tensors.items() if self._kept(name, value) is None]
        return left is None or left > sum(_taken(value) for value in new)

    def done(self) -> Iterator[CheckpointSaved]:
        """The checkpoint that has been finished meanwhile, if any."""
        if self._writing is not None and self._writing.done():
            yield from self.wait()

    def wait(self) -> Iterator[CheckpointSaved]:
        """The checkpoint being written, if any, once it is finished."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            while not wait((writing,), timeout=1).done:
                self._beat()
            yield writing.result()

    def _write(
        self,
        step: int,
        tensors: dict[str, Tensor],
        numbers: dict[str, Any],
        fvu: float | None,
        stalled: float,
    ) -> CheckpointSaved:
        saved: Saved = checkpoint.save(self._folder, step, tensors, numbers)
        return CheckpointSaved(
            step=step,
            checkpoint_path=str(saved.path),
            bytes=saved.bytes,
            sha256=saved.sha256,
            seconds=saved.seconds,
            stalled_seconds=stalled,
            fvu=fvu,
        )


def _taken(value: Tensor) -> int:
    """Bytes of a copy; PyTorch locks memory in powers of two."""
    return 1 << max(0, value.nbytes - 1).bit_length() if value.is_cuda else value.nbytes
