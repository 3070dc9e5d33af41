"""What this host has of the store: for each artefact the manifest of its copy, and when it was
last used."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

from .manifest import Manifest
from .remote import Damaged, GoOn, rest

_FOLDER = "store"
_LOOK_EVERY = 0.5


def key_of(path: Path) -> str:
    """The name that an artefact has on every host.

    Raises `ValueError` outside of the data folder.
    """
    return path.relative_to(settings.HOME).as_posix()


def record(path: Path, manifest: Manifest) -> None:
    """This host's copy is what the store has under this manifest."""
    file = _record(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    draft.write_bytes(manifest.written)
    draft.replace(file)


def used(path: Path) -> None:
    if (file := _record(path)).exists():
        os.utime(file)


def recorded(path: Path) -> Manifest | None:
    """What the copy is; None where it was neither put nor fetched here."""
    try:
        return Manifest.read(_record(path).read_bytes(), key_of(path))
    except (FileNotFoundError, Damaged):
        return None


def forget(path: Path) -> None:
    """An artefact is gone, or all of a folder."""
    for ending in (".json", ".lock"):
        _record(path).with_suffix(ending).unlink(missing_ok=True)
    shutil.rmtree(Path(settings.HOME, _FOLDER, key_of(path)), ignore_errors=True)


def unused_since(moment: float) -> Iterator[Path]:
    """Copies that are there and were last used before this moment, in seconds since 1970."""
    folder = Path(settings.HOME, _FOLDER)
    for file in sorted(folder.rglob("*.json")):
        path = Path(settings.HOME, file.relative_to(folder).with_suffix(""))
        if file.stat().st_mtime < moment and path.exists():
            yield path


@contextmanager
def alone(path: Path, go_on: GoOn) -> Iterator[None]:
    """One process of this host at a time: the others find what it fetched."""
    lock = _record(path).with_suffix(".lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                rest(_LOOK_EVERY, go_on)
        yield


def _record(path: Path) -> Path:
    return Path(settings.HOME, _FOLDER, f"{key_of(path)}.json")
