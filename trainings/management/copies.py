"""This host's copies of what is in the store, and which of them could go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from django.conf import settings

from trainings import store
from trainings.models import Checkpoint, Rehearsal, SaeJob, Training

_DAY = 86_400.0


@dataclass(frozen=True)
class Candidate:
    """One thing that could go: what it is, how much it takes, and how it goes."""

    kind: str
    what: str
    bytes: int
    remove: Callable[[], object]


def unused(days: int) -> Iterator[Candidate]:
    """Not used for so long, in the store as they are here, and read by nothing that runs."""
    needed = _needed()
    for path in store.unused_since(time.time() - days * _DAY):
        if not any(path.is_relative_to(folder) for folder in needed) and store.holds(path):
            yield Candidate("copy", str(path), bytes_of(path), _dropping(path))


def thinned_elsewhere() -> Iterator[Candidate]:
    """Checkpoints whose rows another host has deleted; not one that still waits for the store."""
    from workers.supplies import unsent

    for run in Training.objects.exclude(status="running"):
        waits = unsent(run)
        for path in sorted(run.folder.glob("attempt-*/checkpoints/step-*")):
            if path != waits and not _stands_for(path):
                yield Candidate("copy", str(path), bytes_of(path), _removing(path, run))


def _stands_for(path: Path) -> bool:
    """Whether a row does."""
    return Checkpoint.objects.filter(path=str(path)).exists()


def _removing(path: Path, run: Training) -> Callable[[], None]:
    def remove() -> None:
        begun = Training.objects.filter(pk=run.pk, status="running").exists()
        if not begun and not _stands_for(path):
            store.drop_copy(path)

    return remove


def left_over() -> Iterator[Candidate]:
    """What processes left that were killed while they fetched."""
    for path in sorted(Path(settings.HOME).rglob(f"*{store.DRAFT}")):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - _DAY:
                size = bytes_of(path)
                yield Candidate("half", str(path), size, partial(store.remove_local, path))


def bytes_of(path: Path) -> int:
    """What its files take; what goes while they are counted takes nothing."""
    total = 0
    for each in [path] if path.is_file() else path.rglob("*"):
        with suppress(FileNotFoundError):
            total += each.lstat().st_size if each.is_file() else 0
    return total


def _dropping(path: Path) -> Callable[[], None]:
    def drop() -> None:
        if store.holds(path):
            store.drop_copy(path)

    return drop


def _needed() -> set[Path]:
    """Folders that something under way reads or writes, on whichever host."""
    found: set[Path] = set()
    for run in Training.objects.filter(status="running").select_related("model", "tokenization"):
        found |= {run.folder, run.model.folder, run.tokenization.folder}
        if start := run.start_spec:
            found.add(start.folder)
    jobs = SaeJob.objects.unfinished().select_related("sae__training", "tokenization__model")
    for job in jobs:
        found |= {job.sae.folder, job.tokenization.folder, job.tokenization.model.folder}
    rows = Rehearsal.objects.filter(status="running").select_related("tokenization__model")
    for rehearsal in rows:
        found |= {rehearsal.tokenization.folder, rehearsal.tokenization.model.folder}
    return found
