"""Which version of the studio this is: of the package, and of its tables."""

from __future__ import annotations

from functools import cache
from importlib import metadata
from pathlib import Path

_MIGRATIONS = Path(__file__).resolve().parent.parent / "trainings" / "migrations"


@cache
def version() -> str:
    """As in `0.1.0 (tables 12)`. Two processes of one version can work on one database."""
    newest = max(path.name[:4] for path in _MIGRATIONS.glob("[0-9]*.py"))
    return f"{metadata.version('sae-studio')} (tables {int(newest)})"
