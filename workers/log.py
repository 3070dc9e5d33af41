"""One log per attempt: a JSON object a line, of a bounded size and without secrets."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from trainings.logs import scrub

logger = logging.getLogger(__name__)

MOST_BYTES = 8 * 2**20
# What is no JSON (a library's print, a crash) becomes entries of at most so many bytes.
MOST_TEXT = 4096
_AT_ONCE = 65_536


class Log:
    """The log of one attempt, to which any thread may add.

    What exceeds 8 MiB begins the file anew; what it held is kept as `NAME.old.jsonl`, and no more.
    A log that cannot be written holds nobody up.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] = path.open("ab", buffering=0)
        self._lock, self._failing, self._closed = threading.Lock(), False, False

    def say(self, level: str, message: str, **facts: Any) -> None:
        """Add an entry of the supervisor's."""
        self.write([_entry(level, "supervisor", message, **facts)])

    def close(self) -> None:
        """What is written after this is dropped."""
        with self._lock:
            self._closed = True
            self._file.close()

    def write(self, entries: Iterable[str]) -> None:
        """Whatever goes wrong is told once and costs lines, never the process that writes them."""
        with self._lock:
            if self._closed:
                return
            try:
                data = "".join(f"{entry}\n" for entry in entries).encode("utf-8", "replace")
                if self._file.closed:
                    self._file = self._path.open("ab", buffering=0)
                if data:
                    self._file.write(data)
                if self._file.tell() >= MOST_BYTES:
                    self._begin_anew()
            except Exception:
                if not self._failing:
                    logger.exception("%s cannot be written, lines are lost", self._path)
                self._failing = True

    def _begin_anew(self) -> None:
        self._file.close()  # opened again at the next write
        self._path.replace(self._path.with_suffix(".old.jsonl"))


class Copying:
    """Copies a training process's standard error into its logs, in a thread, until that ends.

    Its own lines are JSON already and keep their form; other output is wrapped. A child that writes
    without end therefore fills no disk and never waits for a full pipe.
    """

    def __init__(self, stream: IO[bytes], logs: Sequence[Log]) -> None:
        self._stream, self._logs = stream, logs
        self._thread = threading.Thread(target=self._copy, name="log", daemon=True)
        self._thread.start()

    def finish(self, seconds: float) -> None:
        """Wait until all that the process wrote is there, at most so long."""
        self._thread.join(seconds)

    def _copy(self) -> None:
        rest = b""
        while chunk := self._stream.read1(_AT_ONCE):  # type: ignore[attr-defined]
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > _AT_ONCE:
                # No secret is cut in two where there is a gap to cut at.
                cut = max(rest.rfind(b" "), rest.rfind(b"\r")) + 1 or len(rest)
                lines, rest = [*lines, rest[:cut]], rest[cut:]
            self._add(lines)
        self._add([rest] if rest else [])

    def _add(self, lines: Sequence[bytes]) -> None:
        entries = list(_entries(lines))
        for log in self._logs:
            log.write(entries)


def _entries(lines: Iterable[bytes]) -> Iterator[str]:
    """Lines that are entries keep their form; the rest between them is wrapped."""
    text: list[bytes] = []
    for line in lines:
        own = _own(line)
        if not own:
            text.append(line)
            continue
        yield from _output(text)
        text = []
        yield own
    yield from _output(text)


def _own(line: bytes) -> str:
    """The line as an entry without secrets; empty where it is none."""
    if not line.startswith(b"{"):
        return ""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(found, dict) or not {"time", "level", "message"} <= found.keys():
        return ""
    return json.dumps(_clean(found), ensure_ascii=False)


def _output(lines: list[bytes]) -> Iterator[str]:
    """All of it without secrets, then in parts, cut between lines where that is possible."""
    rest = scrub(b"\n".join(lines).decode("utf-8", "replace"))
    while rest:
        cut = len(rest) if len(rest) <= MOST_TEXT else rest.rfind("\n", 1, MOST_TEXT + 1)
        part, rest = (rest[:cut], rest[cut:]) if cut > 0 else (rest[:MOST_TEXT], rest[MOST_TEXT:])
        yield _entry("", "output", part.removeprefix("\n"), clean=True)


def _entry(level: str, source: str, message: str, *, clean: bool = False, **facts: Any) -> str:
    now = datetime.now(UTC).isoformat()
    entry = {"level": level, "source": source, "message": message, "time": now, **facts}
    return json.dumps(entry if clean else _clean(entry), ensure_ascii=False)


def _clean(entry: dict[str, Any]) -> dict[str, Any]:
    """Without secrets, before quotes in them are written as something else."""
    return {key: scrub(value) if isinstance(value, str) else value for key, value in entry.items()}
