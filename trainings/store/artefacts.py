"""Artefacts in the store: put, fetched, looked for, discarded.

An artefact is a folder of the data folder, or one file of it, and is called by its path there:

    KEY/artefact.json           its manifest, written last; without it the artefact is not there
    KEY/VERSION/...             its files as they are; the version follows from the manifest

So nothing that is there is ever changed. A new version is put beside the old one, the manifest then
names it, and whoever reads finds one or the other whole.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

from . import scratch
from .manifest import File, Manifest
from .remote import (
    PIECE,
    Absent,
    Away,
    Damaged,
    GoOn,
    Remote,
    StoreError,
    no_matter,
    remote,
    synced,
)
from .scratch import key_of

logger = logging.getLogger(__name__)

MANIFEST = "artefact.json"
# A draft of what is being fetched; one that a killed process left is an orphan.
DRAFT = ".fetch"


def on() -> bool:
    """Whether there is a store at all."""
    return bool(settings.STORE)


def put(
    path: Path, go_on: GoOn = no_matter, *, expected: Mapping[str, tuple[int, str]] | None = None
) -> None:
    """Bring this host's copy into the store. What is there already is not sent again.

    `expected`: size and SHA-256 that files must have. Raises `StoreError`, and `OSError` where the
    copy cannot be read, or is not what was expected.
    """
    if not on():
        return
    there, key = remote(settings.STORE), key_of(path)
    manifest = Manifest.of(path, go_on)
    for name, (size, digest) in (expected or {}).items():
        if manifest.files.get(name) != File(size, digest):
            raise OSError(f"{path / name} is not what was written")
    before = _manifest(there, key, go_on)
    if before is None or before.version != manifest.version:
        for name, file in manifest.files.items():
            _send(there, path if manifest.single else path / name, key, manifest, file, go_on)
        there.write(f"{key}/{MANIFEST}", manifest.written, go_on)
        if before is not None:
            there.remove(f"{key}/{before.version}", MANIFEST, go_on)
    scratch.record(path, manifest)


def fetch(
    path: Path, go_on: GoOn = no_matter, *, newest: bool = False, verified: bool = False
) -> None:
    """Have the artefact on this host, every file verified, or not at all.

    `newest`: also where there is a copy, if the store has something else by now. `verified`: also
    where the copy is no longer what was put or fetched. A store that is away keeps nobody from a
    copy that is there and whole. Raises `Absent`, `Away` or `Damaged`, and `OSError` where this
    host's disk refuses it.
    """

    def will_do() -> bool:
        if not path.exists() or (newest and _outdated(path, go_on)):
            return False
        return not verified or _whole(path, go_on)

    if not on():
        return
    if will_do():
        scratch.used(path)
        return
    with scratch.alone(path, go_on):
        if will_do():
            return  # another process has fetched it meanwhile
        there, key = remote(settings.STORE), key_of(path)
        manifest = _manifest_of(there, key, go_on)
        while True:
            try:
                _fetch(there, path, key, manifest, go_on)
                break
            except Damaged:
                # What was read may have been replaced meanwhile.
                now = _manifest_of(there, key, go_on)
                if now.version == manifest.version:
                    raise
                manifest = now
        scratch.record(path, manifest)


def has(path: Path, go_on: GoOn = no_matter) -> bool:
    """Whether all of it is in the store. Raises `Away`."""
    return on() and _manifest(remote(settings.STORE), key_of(path), go_on) is not None


def holds(path: Path, go_on: GoOn = no_matter) -> bool:
    """Whether the store has these very files: then this host's copy may go. Raises `StoreError`."""
    there = on() and _manifest(remote(settings.STORE), key_of(path), go_on)
    return bool(there) and Manifest.of(path, go_on) == there


def bytes_below(path: Path, go_on: GoOn = no_matter) -> int:
    """What the store keeps of an artefact, or of a folder of them. Raises `StoreError`."""
    return remote(settings.STORE).bytes_below(key_of(path), go_on) if on() else 0


def drop_copy(path: Path) -> None:
    """Remove this host's copy; what is in the store stays there."""
    remove_local(path)
    scratch.forget(path)


def unused_since(moment: float) -> Iterator[Path]:
    """This host's copies that were last used before then, in seconds since 1970."""
    return scratch.unused_since(moment) if on() else iter(())


def discard(path: Path, go_on: GoOn = no_matter) -> None:
    """Remove an artefact, or all artefacts of a folder, from the store. Raises `StoreError`.

    Manifests go first: what is left of an interrupted removal is no artefact.
    """
    if on():
        scratch.forget(path)
        remote(settings.STORE).remove(key_of(path), MANIFEST, go_on)


def discard_later(path: Path) -> None:
    """The same in a thread, for a request that must not wait; `prune` finds what is left."""
    if on():
        threading.Thread(target=_discard_logged, args=(path,), name="discard").start()


def _discard_logged(path: Path) -> None:
    try:
        discard(path)
    except StoreError as error:
        logger.warning("%s stays in the store, `prune --orphans` removes it: %s", path, error)


def children(path: Path, go_on: GoOn = no_matter) -> list[str]:
    """Names of what the store has right below a folder. Raises `Away`."""
    return remote(settings.STORE).children(key_of(path), go_on) if on() else []


def out_of_reach() -> str:
    """Why the store does not answer, in a sentence; empty where it does, or where there is none."""
    try:
        if on():
            remote(settings.STORE).reach()
    except StoreError as error:
        return str(error)
    return ""


def check() -> None:
    """Write, read and delete a small object. Raises `StoreError`."""
    there, name = remote(settings.STORE), f".check-{uuid.uuid4().hex}"
    there.write(name, b"SAE Studio", no_matter)
    try:
        if there.read(name, no_matter) != b"SAE Studio":
            raise Damaged(f"The store {there.shown} gives back something else than was written.")
    except FileNotFoundError as error:
        raise Damaged(f"The store {there.shown} does not have what was written to it.") from error
    finally:
        there.remove(name, MANIFEST, no_matter)


def _send(there: Remote, path: Path, key: str, manifest: Manifest, file: File, go_on: GoOn) -> None:
    """A file of a version, unless an interrupted put has sent it."""
    within = path.name if manifest.single else path.relative_to(settings.HOME, key).as_posix()
    name = f"{key}/{manifest.version}/{within}"
    if there.size(name, go_on) == file.bytes:
        return
    there.send(path, name, go_on)
    arrived = there.size(name, go_on)
    if arrived != file.bytes:
        raise Damaged(f"Of {name} {arrived} of {file.bytes} bytes arrived in the store.")


def _manifest(there: Remote, key: str, go_on: GoOn) -> Manifest | None:
    """None where the artefact is not there."""
    try:
        return Manifest.read(there.read(f"{key}/{MANIFEST}", go_on), key)
    except FileNotFoundError:
        return None


def _manifest_of(there: Remote, key: str, go_on: GoOn) -> Manifest:
    found = _manifest(there, key, go_on)
    if found is None:
        raise Absent(f"{key} is not in the store {there.shown}.")
    return found


def _outdated(path: Path, go_on: GoOn) -> bool:
    """Whether the store has something else than the copy that is here."""
    try:
        there, here = _manifest(remote(settings.STORE), key_of(path), go_on), scratch.recorded(path)
        return there is not None and (here is None or there.version != here.version)
    except Away as error:
        logger.warning("The copy of %s that is here is used: %s", path, error)
        return False


def _whole(path: Path, go_on: GoOn) -> bool:
    """Whether the copy is what its record says; one without a record was made here."""
    known = scratch.recorded(path)
    return known is None or Manifest.of(path, go_on) == known


def _fetch(there: Remote, path: Path, key: str, manifest: Manifest, go_on: GoOn) -> None:
    with _draft(path) as draft:
        for name, file in manifest.files.items():
            target = draft if manifest.single else draft / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _receive(there, f"{key}/{manifest.version}/{name}", file, target, go_on)
        _take_place(draft, path)


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    draft = path.with_name(f"{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}{DRAFT}")
    draft.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield draft
    finally:
        remove_local(draft)


def _receive(there: Remote, name: str, file: File, target: Path, go_on: GoOn) -> None:
    """Raises `Damaged` unless the bytes are those of the manifest."""
    size = there.size(name, go_on)
    if size is None:
        raise Damaged(f"{name} is missing in the store {there.shown}.")
    if size != file.bytes:
        raise Damaged(f"{name} has {size} bytes in the store {there.shown}, not {file.bytes}.")
    digest = hashlib.sha256()
    try:
        with target.open("wb") as out:
            for start in range(0, file.bytes, PIECE):
                piece = there.piece(name, start, min(start + PIECE, file.bytes), go_on)
                digest.update(piece)
                out.write(piece)
    except FileNotFoundError as error:
        raise Damaged(f"{name} went from the store {there.shown} while it was read.") from error
    if digest.hexdigest() != file.sha256:
        raise Damaged(f"{name} in the store {there.shown} is not what was put there (SHA-256).")
    synced(target)


def _take_place(draft: Path, path: Path) -> None:
    """With one rename; an older copy is moved out of the way before."""
    if not path.is_dir():
        draft.replace(path)
        return
    old = draft.with_name(f"{draft.name}{DRAFT}")
    path.replace(old)
    draft.replace(path)
    remove_local(old)


def remove_local(path: Path) -> None:
    """A copy of this host, folder or file, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
