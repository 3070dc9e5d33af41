"""Folders that commands write: new or empty, and filled whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.core.management.base import CommandError


def new_folder(named: str) -> Path:
    """The folder of this name. Raises `CommandError` where something is in it."""
    folder = Path(named).expanduser().resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CommandError(f"{folder} is not empty; name a new folder.", returncode=2)
    return folder


@contextmanager
def drafted(target: Path) -> Iterator[Path]:
    """A folder beside the target, which becomes it at the end, or goes where something fails."""
    draft = target.with_name(f".{target.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        if target.exists():  # empty; somebody may stand in it
            for path in list(draft.iterdir()):
                path.rename(target / path.name)
            draft.rmdir()
        else:
            draft.rename(target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
