"""What a training process says to its supervisor, and how it learns that that one is gone."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from typing import TextIO, TypeAlias

from .events import Event

# A run that is between two events says that it goes on, at most this often (seconds).
BEAT_EVERY = 1.0
# The exit status of a process that heard no pulse: "try again later".
NO_PULSE = 75
# What a supervisor writes from time to time.
PULSE = b"."
Hears: TypeAlias = Callable[[str], None]


class Voice:
    """Events as JSON lines, and beats between them. Any thread may use it.

    A beat is no event of the run: it carries nothing and is never repeated.
    """

    def __init__(self, out: TextIO, beats: bool = False) -> None:
        self._out, self._beats, self._lock = out, beats, threading.Lock()
        self._last = time.monotonic()

    def fileno(self) -> int:
        """Where it writes to."""
        return self._out.fileno()

    def say(self, event: Event, training_id: str | None = None) -> None:
        """`training_id`: whose event it is, where this is the process of several trainings."""
        self._write(event.to_json(training_id))

    def beat(self) -> None:
        """The run goes on: a step or a forward pass has ended."""
        if self._beats and time.monotonic() - self._last >= BEAT_EVERY:
            self._write('{"event":"beat"}')

    def _write(self, line: str) -> None:
        with self._lock:
            self._out.write(f"{line}\n")
            self._out.flush()
            self._last = time.monotonic()


def end_without_pulse(descriptor: int, seconds: float, hear: Hears | None = None) -> None:
    """End this process once nothing was written to `descriptor` for so long, or it is closed.

    A supervisor that is frozen cannot end its child, and its lease runs out all the same: whoever
    goes on with the run must not find the device taken. `hear` is told each line that comes besides
    the pulse.
    """

    def watch() -> None:
        _read_lines(descriptor, seconds, hear)
        os._exit(NO_PULSE)

    threading.Thread(target=watch, name="pulse", daemon=True).start()


def listen(descriptor: int, hear: Hears) -> None:
    """Tell `hear` each line that comes over `descriptor`, as long as it is open."""
    arguments = (descriptor, None, hear)
    threading.Thread(target=_read_lines, args=arguments, name="lines", daemon=True).start()


def _read_lines(descriptor: int, seconds: float | None, hear: Hears | None) -> None:
    """Until nothing has come for so long, or it is closed. A line may begin with pulses."""
    begun = b""
    while True:
        ready, _, _ = select.select([descriptor], [], [], seconds)
        read = os.read(descriptor, 4096) if ready else b""
        if not read:
            return
        *lines, begun = (begun + read).lstrip(PULSE).split(b"\n")
        for line in lines:
            said = line.lstrip(PULSE).decode("utf-8", "replace").strip()
            if hear and said:
                hear(said)
