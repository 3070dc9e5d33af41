"""The stored activations of one site: a folder with a manifest, a lock, and a file per group.

<id>/manifest.json        identity, sizes, and the names people know model and dataset by
<id>/lock                 held shared by every run that reads or fills it; its time is the last use
<id>/000123.safetensors   activations of group 123, all its usable tokens in order
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from .identity import Identity
from .shard import UNFINISHED

_MANIFEST, _LOCK, _GONE, _SHARD = "manifest.json", "lock", ".gone", ".safetensors"


@dataclass(frozen=True)
class Manifest:
    """What an entry is; `model` and `dataset` are names, `bytes_per_token` what a token takes."""

    identity: Identity
    model: str
    dataset: str
    context_length: int
    n_groups: int
    n_tokens: int
    bytes_per_token: int


@dataclass(frozen=True)
class Entry:
    """An entry as it was when it was looked at; `last_used` in seconds since 1970."""

    path: Path
    manifest: Manifest
    n_cached: int
    bytes: int
    last_used: float

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def share(self) -> float:
        """How much of the dataset is stored, 0 to 1."""
        return min(1.0, self.n_cached / self.manifest.n_groups)

    @property
    def in_use(self) -> bool:
        """Whether a run, in whatever process, holds it now."""
        with _alone(self.path) as free:
            return not free

    def remove(self) -> bool:
        """Delete it, unless a run uses it: then nothing happens and the answer is False."""
        with _alone(self.path) as free:
            if not free:
                return False
            gone = self.path.with_name(self.path.name + _GONE)
            shutil.rmtree(gone, ignore_errors=True)
            self.path.rename(gone)
        with suppress(FileNotFoundError):  # what is gone is also cleaned up by others
            shutil.rmtree(gone)
        return True


class OpenEntry:
    """An entry held by this run: nobody removes it until it is closed."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Make the entry where there is none. Raises `OSError`."""
        self.path = folder / manifest.identity.id
        self.manifest = manifest
        self._lock = _held(self.path)
        try:
            os.utime(self.path / _LOCK)
            if look(self.path) is None:
                _write_manifest(self.path / _MANIFEST, manifest)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let it be removed; a second call does nothing."""
        if self._lock < 0:
            return
        try:
            os.utime(self._lock)
        finally:
            os.close(self._lock)
            self._lock = -1

    def shard(self, group: int) -> Path:
        return self.path / f"{group:06d}{_SHARD}"

    def groups(self) -> set[int]:
        """The groups that are stored now."""
        return groups(self.path)


def groups(path: Path) -> set[int]:
    """The groups stored in an entry's folder; none where there is no such folder."""
    return {int(name.removesuffix(_SHARD)) for name in _files(path) if _is_shard(name)}


def look(path: Path) -> Entry | None:
    """What lies there; None where it is no entry, or no longer one."""
    try:
        text = (path / _MANIFEST).read_text(encoding="utf-8")
        numbers = json.loads(text)
        manifest = Manifest(**numbers | {"identity": Identity(**numbers["identity"])})
        sizes = _files(path)
        used = (path / _LOCK).stat().st_mtime
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None
    cached = sum(map(_is_shard, sizes))
    return Entry(path, manifest, cached, sum(sizes.values()), used)


def clean(path: Path) -> None:
    """Free what killed processes left of an entry, or of its files; not while a run writes."""
    if path.name.endswith(_GONE):
        shutil.rmtree(path, ignore_errors=True)
        return
    with _alone(path) as free:
        for name in _files(path) if free else ():
            if name.endswith(UNFINISHED):
                (path / name).unlink(missing_ok=True)


def size(path: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(_files(path).values())


def _files(path: Path) -> dict[str, int]:
    """Names and sizes of the files of a folder; none where it is gone."""
    found = {}
    try:
        with os.scandir(path) as files:
            for file in files:
                try:
                    found[file.name] = file.stat(follow_symlinks=False).st_size
                except FileNotFoundError:
                    continue  # renamed or removed at this moment
    except FileNotFoundError:
        return {}
    return found


def _is_shard(name: str) -> bool:
    return name.endswith(_SHARD)


def _write_manifest(path: Path, manifest: Manifest) -> None:
    draft = path.with_name(f"{path.name}.{os.getpid()}{UNFINISHED}")
    draft.write_text(json.dumps(asdict(manifest), indent=1), encoding="utf-8")
    draft.rename(path)


def _held(path: Path) -> int:
    """A descriptor that holds the entry's lock, shared with other runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with suppress(FileExistsError):
            path.mkdir()
        try:
            lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            continue  # removed since the line above
        fcntl.flock(lock, fcntl.LOCK_SH)
        if _is_at(lock, path / _LOCK):
            return lock
        os.close(lock)  # removed while this waited for the lock


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Whether no run holds the entry; where none does, none can until this ends."""
    try:
        lock = os.open(path / _LOCK, os.O_RDONLY)
    except FileNotFoundError:
        yield path.exists()
        return
    try:
        yield _locked(lock) and _is_at(lock, path / _LOCK)
    finally:
        os.close(lock)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file still has this name."""
    try:
        there, here = path.stat(), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
