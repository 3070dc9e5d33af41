"""`members.json`: the run folders of a group that shares one stream of activations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

MEMBERS = "members.json"
_RUN_DIRS = TypeAdapter(list[Path])


def write_members(folder: Path, run_dirs: Sequence[Path]) -> None:
    """Name the run folders of a group, in its own folder or that of one of them."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps([str(run_dir) for run_dir in run_dirs], indent=1)
    (folder / MEMBERS).write_text(text, encoding="utf-8")


def read_members(folder: Path) -> list[Path]:
    """Paths that are not absolute begin at `folder`."""
    named = _RUN_DIRS.validate_json((folder / MEMBERS).read_bytes())
    return [folder / path for path in named]
