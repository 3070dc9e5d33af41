"""Which place this is: the store, or without one the data folder, says so in a file of its own.

Two hosts that mean the same place by other names find the same mark; one whose folder is not
mounted finds none.
"""

from __future__ import annotations

import uuid
from pathlib import Path

from django.conf import settings

from .artefacts import on
from .remote import no_matter, remote

NAME = ".studio"


def mark(*, make: bool = False) -> str:
    """What the place of artefacts says; empty where it says nothing. `make` has it say something.

    Raises `StoreError`, and `OSError` where the data folder cannot be read or written.
    """
    said = _said()
    if said or not make:
        return said
    _say(uuid.uuid4().hex.encode())
    return _said()  # where two made one, the last


def _said() -> str:
    try:
        data = remote(settings.STORE).read(NAME, no_matter) if on() else _file().read_bytes()
    except FileNotFoundError:
        return ""
    return data.decode(errors="replace").strip()


def _say(words: bytes) -> None:
    if on():
        remote(settings.STORE).write(NAME, words, no_matter)
        return
    _file().parent.mkdir(parents=True, exist_ok=True)
    _file().write_bytes(words)


def _file() -> Path:
    return Path(settings.HOME) / NAME
