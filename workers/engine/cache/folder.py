"""All entries of the cache, the room they may take, and which of them go when it is full."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from . import entry
from .entry import Entry
from .identity import Identity

_LOCK, _EVICTIONS = "lock", "evictions.jsonl"
_EVICTIONS_KEPT = 100
# Of the disk, this much is left to checkpoints and to others: a tenth, at most 20 GB.
_RESERVE_SHARE, _RESERVE_MOST = 0.1, 20 * 10**9


@dataclass(frozen=True)
class Eviction:
    """An entry that had to make room; `at` in seconds since 1970."""

    at: float
    id: str
    model: str
    dataset: str
    layer: int
    hook: str
    bytes: int


@dataclass(frozen=True)
class CacheFolder:
    """Where activations are kept, and how many bytes they may take; 0 keeps none."""

    path: Path
    limit: int

    def entries(self) -> list[Entry]:
        """All there is, the last used first."""
        found = [found for place in self._places() if (found := entry.look(place))]
        return sorted(found, key=lambda entry: entry.last_used, reverse=True)

    def used(self) -> int:
        """Bytes of all entries, those that are being made or removed included."""
        return sum(entry.size(place) for place in self._places())

    def evictions(self) -> list[Eviction]:
        """The newest first."""
        try:
            lines = (self.path / _EVICTIONS).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        return [Eviction(**json.loads(line)) for line in reversed(lines)]

    def groups(self, identity: Identity) -> set[int]:
        """The groups that are stored of one site."""
        return entry.groups(self.path / identity.id)

    def capacity(self) -> int:
        """Bytes that one run could fill if everything else went."""
        return min(self.limit, self.used() + self._disk_room())

    def room(self) -> int:
        """Bytes that may be added now without anything having to go; below 0 where it is over."""
        return min(self.limit - self.used(), self._disk_room())

    def make_room(self, wanted: int) -> int:
        """Evict entries that no run uses, the least recently used first, until so many bytes fit.

        Returns how many bytes the caller may add before it asks again: less than `wanted` where
        nothing more can go, and otherwise a quarter of the room, so that runs that fill the cache
        at the same time do not share out the same bytes. Raises `OSError`.
        """
        with self._locked():
            for place in self._places():
                entry.clean(place)
            room = self.room()
            for candidate in reversed(self.entries()):
                if room >= wanted or wanted > self.limit:
                    break
                if candidate.remove():
                    self._log(candidate)
                    room = self.room()
        return max(wanted, room // 4) if room >= wanted else room

    def remove(self, id: str) -> bool:
        """Delete an entry, unless a run uses it. Raises `KeyError` where there is none."""
        found = next((entry for entry in self.entries() if entry.id == id), None)
        if found is None:
            raise KeyError(id)
        return found.remove()

    def clear(self) -> tuple[int, int]:
        """Delete every entry that no run uses; how many went, and how many stayed."""
        gone = [found.remove() for found in self.entries()]
        return sum(gone), len(gone) - sum(gone)

    def _places(self) -> list[Path]:
        try:
            return [place for place in self.path.iterdir() if place.is_dir()]
        except FileNotFoundError:
            return []

    def _disk_room(self) -> int:
        place = next(p for p in (self.path, *self.path.parents) if p.exists())
        disk = shutil.disk_usage(place)
        return disk.free - int(min(_RESERVE_SHARE * disk.total, _RESERVE_MOST))

    def _log(self, gone: Entry) -> None:
        identity, manifest = gone.manifest.identity, gone.manifest
        said = Eviction(
            at=time.time(),
            id=gone.id,
            model=manifest.model,
            dataset=manifest.dataset,
            layer=identity.layer,
            hook=identity.hook,
            bytes=gone.bytes,
        )
        kept = [said, *self.evictions()][:_EVICTIONS_KEPT]
        draft = self.path / f"{_EVICTIONS}.tmp"
        draft.write_text("".join(json.dumps(asdict(e)) + "\n" for e in reversed(kept)), "utf-8")
        draft.rename(self.path / _EVICTIONS)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One at a time counts, evicts and writes the log."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
