"""What the commands show: a bar on a terminal, plain lines in a pipe."""

from __future__ import annotations

import io
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

LINE_EVERY = 5.0
NARROWEST_LAST = 12


def columns(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Columns below their names; a last column that is too wide for the terminal is cut."""
    lines = [titles, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(titles) - 1)]
    left = shutil.get_terminal_size((160, 24)).columns - sum(widths) - 2 * len(widths)
    width = max(NARROWEST_LAST, left)
    return "\n".join(
        "  ".join([*map(str.ljust, line, widths), line[-1][:width]]).rstrip() for line in lines
    )


@contextmanager
def quiet(verbosity: int) -> Iterator[None]:
    """Leave the screen to the command, which says itself what failed; `--verbosity 2` logs."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(before if verbosity >= 2 else logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)


class Display:
    """Shows how far a piece of work is, on the stream it is given."""

    def __init__(self, stream: TextIO, label: str) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._shown_at = 0.0
        self._last = self._written = ""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=Console(file=stream),
            disable=not self._is_terminal,
        )
        self._task = self._bar.add_task(label, total=1.0, note="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        if self._last:
            self._write(self._last)

    def update(self, share: float, note: str = "") -> None:
        """Move the bar, or write a line if the last one is some seconds old."""
        self._bar.update(self._task, completed=share, note=note)
        if self._is_terminal:
            return
        self._last = f"{share:4.0%}  {note}".rstrip()
        if self._last == self._written:  # nothing new
            self._last = ""
        elif time.monotonic() - self._shown_at >= LINE_EVERY:
            self._write(self._last)

    def say(self, text: str) -> None:
        """One line that stays."""
        if self._is_terminal:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            self._write(text)

    def _write(self, line: str) -> None:
        self._shown_at, self._last, self._written = time.monotonic(), "", line
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except BrokenPipeError:
            # Nobody reads any more; what is shown goes on all the same.
            self._stream = io.StringIO()
