"""What a run finds of its activations in the cache, and leaves there."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from .cache import CacheFolder, DamagedShard, Manifest, OpenEntry, read_shard, write_shard
from .events import Warned

log = logging.getLogger(__name__)

_CODES = {torch.bfloat16: "BF16", torch.float32: "F32"}
# More than the header of a shard takes.
_HEADER_BYTES = 512


class Shelf:
    """The cache's entries for the sites of one run, in the order of the sites.

    Nothing that goes wrong here ends the run: a group that cannot be read is computed, one that
    cannot be stored is not. `news` says so, each kind of trouble once.
    """

    def __init__(self, folder: CacheFolder, manifests: list[Manifest], held: torch.dtype) -> None:
        """Raises `OSError` where the folder cannot be used."""
        self._folder, self._held = folder, held
        self._stores, self._room = True, 0
        self._told: set[str] = set()
        self._news: deque[tuple[str, str]] = deque()  # filled by the thread that reads
        with ExitStack() as opening:
            self._entries = [
                opening.enter_context(closing(OpenEntry(folder.path, manifest)))
                for manifest in manifests
            ]
            self._closing = opening.pop_all()

    def __enter__(self) -> Shelf:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the entries."""
        self._closing.close()

    def groups(self) -> set[int]:
        """The groups that are stored for every site now."""
        return set.intersection(*(entry.groups() for entry in self._entries))

    def get(self, group: int, n_tokens: int) -> list[Tensor] | None:
        """Activations [n_tokens, D] of every site, on the CPU; None where they must be computed."""
        # All are looked at, so that every damaged one is deleted before the group is computed.
        found = [self._read(entry.shard(group), n_tokens) for entry in self._entries]
        stored = [tensor for tensor in found if tensor is not None]
        return stored if len(stored) == len(found) else None

    def put(self, group: int, computed: list[Tensor]) -> None:
        """Store what was computed for every site, as far as there is room."""
        if not self._stores:
            return
        try:
            for entry, tensor in zip(self._entries, computed, strict=True):
                self._write(entry.shard(group), tensor)
        except OSError as error:
            log.warning("Activations are no longer stored: %s.", error)
            self._stores = False
            self._tell(
                "cache_unwritable",
                f"The activation cache could not be written ({error}); "
                "what this run computes from now on is not kept.",
            )

    def news(self, step: int) -> Iterator[Warned]:
        """What went wrong since this was last asked."""
        while self._news:
            code, message = self._news.popleft()
            yield Warned(step=step, code=code, message=message)

    def _read(self, path: Path, n_tokens: int) -> Tensor | None:
        try:
            return self._verified(path, n_tokens)
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("A group of activations is computed: %s.", error)
            self._tell(
                "cache_unreadable",
                f"The activation cache could not be read ({error}); its activations are computed.",
            )
            return None

    def _verified(self, path: Path, n_tokens: int) -> Tensor | None:
        """What the file holds; None where that is not what was written, and the file is deleted."""
        try:
            rows = read_shard(path, _CODES[self._held], n_tokens)
        except DamagedShard as error:
            log.warning("%s is deleted and computed again: %s.", path, error)
            self._tell(
                "cache_damaged",
                f"A file of the activation cache was damaged ({error}); "
                "it was deleted, and its activations are computed again.",
            )
            path.unlink()
            return None
        return torch.from_numpy(rows).view(self._held)

    def _write(self, path: Path, tensor: Tensor) -> None:
        if not self._stores or path.exists():  # by another run, or for one of two sites
            return
        rows = tensor.cpu().contiguous().view(torch.uint8).numpy()
        wanted = rows.nbytes + _HEADER_BYTES
        if self._room < wanted:
            self._room = self._folder.make_room(wanted)
        if self._room < wanted:
            self._stores = False
            self._tell(
                "cache_full",
                "The activation cache is full and nothing in it can go; "
                "what this run computes from now on is not kept.",
            )
            return
        self._room -= write_shard(path, _CODES[self._held], rows)

    def _tell(self, code: str, message: str) -> None:
        if code not in self._told:
            self._told.add(code)
            self._news.append((code, message))
