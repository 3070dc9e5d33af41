"""Which of a run's processes says how it ended: the first that has something to say.

Where one fails the others lose it, and the agent starts all of them again. A file in the run's
folder tells these that there is nothing left to do.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ..events import Event, Failed

_FILE = "last-word"
FAILED = Failed.name


def claim(run_dir: Path, event: Event) -> bool:
    """Whether this process may say the last word of the run."""
    try:
        with (run_dir / _FILE).open("x", encoding="utf-8") as file:
            file.write(event.name)
    except FileExistsError:
        return False
    return True


def spoken(run_dir: Path) -> str | None:
    """The name of the run's last event; None while it goes on."""
    with suppress(FileNotFoundError):
        return (run_dir / _FILE).read_text(encoding="utf-8")
    return None


def forget(run_dir: Path) -> None:
    """What an earlier run in this folder has left."""
    (run_dir / _FILE).unlink(missing_ok=True)
