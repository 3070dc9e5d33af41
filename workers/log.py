"""One log per attempt: a JSON object a line, of a bounded size and without secrets."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable, Iterator
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
    """Copies a training process's standard error into its log, in a thread, until that ends.

    Its own lines are JSON already and keep their form; other output is wrapped. `say` adds what the
    supervisor has to tell. What exceeds 8 MiB begins the file anew; what it held is kept as
    `NAME.old.jsonl`, and no more. A child that writes without end therefore fills no disk and never
    waits for a full pipe, nor does one whose log cannot be written.
    """

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self._path, self._stream = path, stream
        self._file: IO[bytes] = path.open("ab", buffering=0)
        self._lock, self._failing = threading.Lock(), False
        self._thread = threading.Thread(target=self._copy, name="log", daemon=True)
        self._thread.start()

    def say(self, level: str, message: str, **facts: Any) -> None:
        """Add an entry of the supervisor's."""
        self._write([_entry(level, "supervisor", message, **facts)])

    def finish(self, seconds: float) -> None:
        """Wait until all that the process wrote is there, at most so long."""
        self._thread.join(seconds)

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def _copy(self) -> None:
        rest = b""
        while chunk := self._stream.read1(_AT_ONCE):  # type: ignore[attr-defined]
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > _AT_ONCE:
                lines, rest = [*lines, rest], b""
            self._write(_entries(lines))
        self._write(_entries([rest] if rest else []))

    def _write(self, entries: Iterable[str]) -> None:
        data = "".join(f"{scrub(entry)}\n" for entry in entries).encode("utf-8", "replace")
        with self._lock:
            if not data or self._file.closed:
                return
            try:
                self._file.write(data)
                if self._file.tell() >= MOST_BYTES:
                    self._begin_anew()
            except OSError as error:
                if not self._failing:
                    logger.warning("%s cannot be written, lines are lost: %s", self._path, error)
                self._failing = True

    def _begin_anew(self) -> None:
        self._file.close()
        self._path.replace(self._path.with_suffix(".old.jsonl"))
        self._file = self._path.open("ab", buffering=0)


def _entries(lines: Iterable[bytes]) -> Iterator[str]:
    """Lines that are entries as they are, the rest between them wrapped."""
    text: list[bytes] = []
    size = 0
    for line in lines:
        structured = _is_entry(line)
        if text and (structured or size + len(line) > MOST_TEXT):
            yield _output(text)
            text, size = [], 0
        if structured:
            yield line.decode("utf-8", "replace")
        else:
            pieces = [line[i : i + MOST_TEXT] for i in range(0, max(1, len(line)), MOST_TEXT)]
            for piece in pieces[:-1]:
                yield _output([piece])
            text, size = [*text, pieces[-1]], size + len(pieces[-1]) + 1
    if text:
        yield _output(text)


def _is_entry(line: bytes) -> bool:
    if not line.startswith(b"{"):
        return False
    try:
        found = json.loads(line)
    except ValueError:
        return False
    return isinstance(found, dict) and {"time", "level", "message"} <= found.keys()


def _output(lines: list[bytes]) -> str:
    return _entry("", "output", b"\n".join(lines).decode("utf-8", "replace"))


def _entry(level: str, source: str, message: str, **facts: Any) -> str:
    now = datetime.now(UTC).isoformat()
    entry = {"level": level, "source": source, "message": message, "time": now, **facts}
    return json.dumps(entry, ensure_ascii=False)
