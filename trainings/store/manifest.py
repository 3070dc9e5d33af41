"""What an artefact consists of: each file's size and SHA-256."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .remote import PIECE, Damaged, GoOn

FORMAT = 1


@dataclass(frozen=True)
class File:
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """`files` by their names within the artefact; of one that is a single file, its own name."""

    single: bool
    files: dict[str, File]

    @classmethod
    def of(cls, path: Path, go_on: GoOn) -> Manifest:
        """Of what lies on the disk. Raises `FileNotFoundError` where nothing does."""
        if path.is_file():
            return cls(True, {path.name: _described(path, go_on)})
        found = sorted(each for each in path.rglob("*") if each.is_file())
        if not found:
            raise FileNotFoundError(path)
        names = {each.relative_to(path).as_posix(): each for each in found}
        return cls(False, {name: _described(each, go_on) for name, each in names.items()})

    @classmethod
    def read(cls, data: bytes, key: str) -> Manifest:
        """What `written` wrote. Raises `Damaged`."""
        try:
            found = json.loads(data)
            if found["format"] != FORMAT:
                raise Damaged(f"The manifest of {key} in the store is of a later SAE Studio.")
            files = {name: File(**each) for name, each in found["files"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Damaged(f"The manifest of {key} in the store cannot be read: {error}.") from error
        if not files or not all(map(_stays_inside, files)):
            raise Damaged(f"The manifest of {key} in the store names files outside of it.")
        return cls(bool(found["single"]), files)

    @property
    def written(self) -> bytes:
        files = {name: vars(each) for name, each in sorted(self.files.items())}
        told: dict[str, Any] = {"format": FORMAT, "single": self.single, "files": files}
        return json.dumps(told, indent=1).encode()

    @property
    def version(self) -> str:
        """Of the content: what differs in one byte has another."""
        return hashlib.sha256(self.written).hexdigest()[:16]

    @property
    def bytes(self) -> int:
        return sum(each.bytes for each in self.files.values())


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    inside = not path.is_absolute() and ".." not in path.parts and path.parts != ()
    return inside and "\x00" not in name


def _described(path: Path, go_on: GoOn) -> File:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            go_on()
            digest.update(piece)
            size += len(piece)
    return File(size, digest.hexdigest())
