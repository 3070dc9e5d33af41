"""Objects at an fsspec address: written whole or not at all, read in pieces, tried again."""

from __future__ import annotations

import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from trainings.logs import scrub

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

logger = logging.getLogger(__name__)

# Called often while something is carried; what it raises ends that.
GoOn = Callable[[], None]
Found = TypeVar("Found")

# Bytes that are read at a time.
PIECE = 16 * 2**20
# Seconds before each further try; the library of an address may have tried more than once, too.
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
_TICK = 0.2


def no_matter() -> None:
    """A `GoOn` that ends nothing."""


class StoreError(Exception):
    """Something cannot be brought to the store or from it; the message is a sentence."""


class Absent(StoreError):
    """It is not in the store, or not yet whole."""


class Away(StoreError):
    """The store cannot be reached; later it may be."""


class Damaged(StoreError):
    """What is in the store is not what was put there; the message names the file."""


class Remote:
    """The file system of an address and the folder in it. Names are relative to that folder."""

    def __init__(self, url: str) -> None:
        """Raises `StoreError` where the address cannot be used at all, `Away` where what is there
        does not answer: some file systems connect at once."""
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem

        self.shown = scrub(url)
        try:
            self._fs: AbstractFileSystem
            # What another host wrote a moment ago must be seen.
            self._fs, root = url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise StoreError(f"SAESTUDIO_STORE cannot be used: {scrub(str(error))}.") from error
        except Exception as error:  # each kind of address has errors of its own
            raise Away(
                f"The store {self.shown} cannot be reached (connecting: {_why(error)})."
            ) from error
        self._root = root.rstrip("/")
        self._local = isinstance(self._fs, LocalFileSystem)

    def read(self, name: str, go_on: GoOn) -> bytes:
        """All of a small object. Raises `FileNotFoundError` where it is not there, `Away`."""
        data: bytes = self._tried(
            f"reading {name}", lambda: self._fs.cat_file(self._at(name)), go_on
        )
        return data

    def piece(self, name: str, start: int, end: int, go_on: GoOn) -> bytes:
        """These bytes of an object. Raises as `read` does."""
        at = self._at(name)
        data: bytes = self._tried(
            f"reading {name}", lambda: self._fs.cat_file(at, start=start, end=end), go_on
        )
        return data

    def size(self, name: str, go_on: GoOn) -> int | None:
        """In bytes; None where there is no such object. Raises `Away`."""
        try:
            info = self._tried(f"looking at {name}", lambda: self._fs.info(self._at(name)), go_on)
        except FileNotFoundError:
            return None
        return int(info["size"]) if info["type"] == "file" else None

    def send(self, path: Path, name: str, go_on: GoOn) -> None:
        """A file to this name. Raises `Away`, and `FileNotFoundError` where the file is gone."""

        def send() -> None:
            if self._local:
                _replace(self._at(name), lambda draft: shutil.copyfile(path, draft))
            else:
                self._in_folder(name, lambda at: self._fs.put_file(str(path), at))

        if not path.is_file():
            raise FileNotFoundError(path)
        self._written(name, send, go_on)

    def write(self, name: str, data: bytes, go_on: GoOn) -> None:
        """A small object to this name. Raises `Away`."""

        def write() -> None:
            if self._local:
                _replace(self._at(name), lambda draft: Path(draft).write_bytes(data))
            else:
                self._in_folder(name, lambda at: self._fs.pipe_file(at, data))

        self._written(name, write, go_on)

    def remove(self, name: str, first: str, go_on: GoOn) -> None:
        """All below this name, and before the rest the objects that are called `first`."""

        def remove() -> None:
            try:
                found = self._fs.find(self._at(name))
                heads = [path for path in found if path.rpartition("/")[2] == first]
                if heads:
                    self._fs.rm(heads)
                self._fs.rm(self._at(name), recursive=True)
            except FileNotFoundError:
                return  # by somebody else, or it never was

        self._tried(f"deleting {name}", remove, go_on)

    def bytes_below(self, name: str, go_on: GoOn) -> int:
        """What all objects below a name take. Raises `Away`."""
        at = self._at(name)
        found = self._tried(f"listing {name}", lambda: self._fs.find(at, detail=True), go_on)
        return sum(int(each["size"] or 0) for each in found.values())

    def children(self, name: str, go_on: GoOn) -> list[str]:
        """The last parts of the names right below this one. Raises `Away`."""
        try:
            found = self._tried(
                f"listing {name}", lambda: self._fs.ls(self._at(name), detail=False), go_on
            )
        except FileNotFoundError:
            return []
        return sorted({path.rstrip("/").rpartition("/")[2] for path in found})

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _written(self, name: str, write: Callable[[], None], go_on: GoOn) -> None:
        """As `_tried`; what is not found here is the place itself."""

        def placed() -> None:
            try:
                write()
            except FileNotFoundError as error:
                raise OSError(str(error)) from error

        self._tried(f"writing {name}", placed, go_on)

    def _in_folder(self, name: str, write: Callable[[str], Any]) -> None:
        """Object stores have no folders; other file systems want them made."""
        at = self._at(name)
        try:
            write(at)
        except FileNotFoundError:
            if self._fs.async_impl:  # an object store, whose bucket is for its owner to make
                raise
            self._fs.makedirs(at.rpartition("/")[0], exist_ok=True)
            write(at)

    def reach(self) -> None:
        """Ask for something, once. Raises `StoreError` where there is no answer."""
        with suppress(FileNotFoundError):
            self._tried("asking", lambda: self._fs.info(self._root), no_matter, pauses=())

    def _tried(
        self,
        what: str,
        do: Callable[[], Found],
        go_on: GoOn,
        pauses: tuple[float, ...] | None = None,
    ) -> Found:
        """Do it, and again after growing pauses where it fails for a reason that may pass."""
        for pause in (*(PAUSES if pauses is None else pauses), None):
            go_on()
            try:
                self._see_that_it_is_mounted()
                return do()
            except FileNotFoundError:
                raise
            except PermissionError as error:
                raise StoreError(
                    f"The store {self.shown} refuses {what}: {_why(error)}."
                ) from error
            except Exception as error:  # each kind of address has errors of its own
                if pause is None:
                    raise Away(
                        f"The store {self.shown} cannot be reached ({what}: {_why(error)})."
                    ) from error
                logger.warning("The store fails at %s: %s; again in %g s", what, _why(error), pause)
            rest(pause, go_on)
        raise AssertionError("the last try returns or raises")

    def _see_that_it_is_mounted(self) -> None:
        """A folder that is not there is never made: below it might be nothing but this host."""
        if self._local and not Path(self._root).is_dir():
            raise NotADirectoryError(f"the folder {self._root} is not there; is it mounted?")


@lru_cache(maxsize=4)
def _opened(url: str, pid: int) -> Remote:
    return Remote(url)


def remote(url: str) -> Remote:
    """One for each process: the libraries' threads do not live on in a fork."""
    return _opened(url, os.getpid())


def rest(seconds: float, go_on: GoOn) -> None:
    """Wait so long."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        go_on()
        time.sleep(min(_TICK, left))


def _why(error: Exception) -> str:
    words = " ".join(scrub(str(error)).split()) or type(error).__name__
    return words[:300].rstrip(".")


def _replace(at: str, write: Callable[[str], Any]) -> None:
    """Write a draft beside it, have it on the disk, and rename it."""
    target = Path(at)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        write(str(draft))
        synced(draft)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def synced(path: Path) -> None:
    """Have a file's bytes on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
