"""Places as people write them on a command line."""

from __future__ import annotations

from pathlib import Path

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError

from trainings.sources import check_local_path


def looks_local(text: str) -> bool:
    return text.startswith(("/", "./", "../", "~")) or text in (".", "..")


def local_path(text: str) -> str:
    """The whole path, as seen from the current folder. Raises `CommandError`."""
    try:
        return str(check_local_path(str(Path(text).expanduser().absolute())))
    except ValidationError as error:
        raise CommandError(error.message, returncode=2) from error
