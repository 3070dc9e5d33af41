"""What the fault suite saw, kept in docs/reliability.json and shown in docs/reliability.md.

A case replaces its own row and leaves the others, so that parts of the suite can be run alone.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.studio import ROOT

FILE, PAGE = ROOT / "docs" / "reliability.json", ROOT / "docs" / "reliability.md"
_HEAD = """\
# Reliability

What was broken on purpose, what is promised, and what was measured. Written by `make faults` and
`make faults-long` themselves ([tests/faults](../tests/faults)); a row is as old as its date. All
figures are those of one run, on {machine}.

"""
_TABLE = "| case | promise | database | measured | date |\n|---|---|---|---|---|\n"


@dataclass(frozen=True)
class Row:
    case: str
    promise: str
    database: str
    measured: str
    date: str


def database() -> str:
    return "PostgreSQL" if os.environ.get("SAESTUDIO_TEST_DATABASE_URL") else "SQLite"


def keep(case: str, promise: str, measured: dict[str, object]) -> None:
    """Write a row to both files, where the environment asks for it."""
    if not os.environ.get("SAESTUDIO_WRITE_RELIABILITY"):
        return
    words = ", ".join(f"{name}: {_shown(value)}" for name, value in measured.items())
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    new = Row(case, promise, database(), words, today)
    with FILE.open("r+") as held:  # another database's cases may end at the same moment
        fcntl.flock(held, fcntl.LOCK_EX)
        rows = [row for row in _rows(FILE) if (row.case, row.database) != (new.case, new.database)]
        rows = sorted([*rows, new], key=lambda row: (row.case, row.database))
        lines = ",\n".join(" " + json.dumps(asdict(row), ensure_ascii=False) for row in rows)
        FILE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        PAGE.write_text(page(rows), encoding="utf-8")


def page(rows: list[Row]) -> str:
    machine = f"{os.cpu_count()} cores ({platform.machine()})"
    shown = (
        f"| {row.case} | {row.promise} | {row.database} | {row.measured} | {row.date} |\n"
        for row in rows
    )
    return _HEAD.format(machine=machine) + _TABLE + "".join(shown)


def _rows(file: Path) -> list[Row]:
    if not file.exists():
        return []
    return [Row(**row) for row in json.loads(file.read_text(encoding="utf-8"))]


def _shown(value: object) -> str:
    return f"{value:.1f} s" if isinstance(value, float) else f"{value}"
