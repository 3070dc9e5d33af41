"""A child process of the engine: how it is started, heard and ended, and what its end means.

A fault in the child (a segfault, the CUDA driver, the out-of-memory killer) never ends the worker.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

from django.conf import settings

# What follows `python` to train what lies in a run folder.
ENGINE = ("-m", "workers.engine")
# The child ends itself after so many seconds without a pulse, before the lease, renewed at the
# latest 10 s before, has run out and a successor starts. Where only the database is away the pulse
# goes on: nobody else can take the run meanwhile, or if this host alone is cut off, the successor
# has a device of its own and all that is written here is fenced.
PULSE_EVERY, PULSE_LOST = 5.0, 40.0
# A child that says nothing for so many seconds is shown as standing still, and ended after
# SAESTUDIO_HUNG_SECONDS; both are longer where the run has been longer between two words before.
STILL, TIMES_STILL, TIMES_HUNG = 60.0, 3, 10
# For the end of a child after its last word.
LINGER = 30.0
# What a child says is waited for so long at a time.
TICK = 0.2
SECRETS = (
    "SAESTUDIO_SECRET_KEY",
    "DATABASE_URL",
    "REDIS_URL",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "SAESTUDIO_STORE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
)


def spawn(
    folder: Path, log: IO[bytes] | int, *words: str, watched: bool = False
) -> subprocess.Popen[str]:
    """The engine on a run folder, in a process that ends with this one.

    `watched`: it says that it lives, and ends itself where it does not hear the same over stdin.
    """
    if watched:
        words = (*words, "--watched", f"{PULSE_LOST:g}")
    return subprocess.Popen(
        [sys.executable, *ENGINE, *words, "--parent", str(os.getpid()), str(folder)],
        cwd=settings.BASE_DIR,
        env={name: value for name, value in os.environ.items() if name not in SECRETS},
        stdin=subprocess.PIPE if watched else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        encoding="utf-8",
        # A group of its own: Ctrl-C reaches the supervisor, which then saves the run.
        start_new_session=True,
    )


def read(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    """Put every line into the queue as it comes; None after the last."""
    for line in stream:
        lines.put(line)
    lines.put(None)


def end(child: subprocess.Popen[Any]) -> None:
    """Leave nothing of the child's group behind."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def how_it_ended(returncode: int) -> str:
    """A sentence for a process that ended without saying why."""
    if returncode >= 0:
        return (
            f"The training process ended with exit code {returncode} without saying why; "
            "its log has the last lines."
        )
    name = signal.Signals(-returncode).name
    if -returncode == signal.SIGKILL:
        return (
            "The training process was killed (SIGKILL). Most often the machine ran out of memory: "
            "try a smaller batch, buffer or latent dimension, or resume from the last checkpoint."
        )
    return (
        f"The training process crashed ({name}). Its log has the last lines; "
        "it can be resumed from the last checkpoint."
    )


def without_a_word(what: str, advice: str, returncode: int) -> str:
    """A sentence for a child that only works something out, and ended without saying what."""
    if returncode == -signal.SIGKILL:
        return f"{what} was killed (SIGKILL). Most often the machine ran out of memory: {advice}."
    how = f"exit code {returncode}" if returncode >= 0 else signal.Signals(-returncode).name
    return f"{what} ended without a word ({how}); the worker's log has its last lines."


class Silence:
    """How long a child has said nothing, beside how long it ever did."""

    def __init__(self) -> None:
        self._heard, self._longest, self._shown = time.monotonic(), 0.0, False

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._heard

    def broken(self) -> bool:
        """It said something. Whether its silence had been shown."""
        self._longest = max(self._longest, self.seconds)
        self._heard = time.monotonic()
        shown, self._shown = self._shown, False
        return shown

    def begins(self) -> bool:
        """Whether the silence has just become long enough to be shown."""
        if self._shown or self.seconds < max(STILL, TIMES_STILL * self._longest):
            return False
        self._shown = True
        return True

    def too_long(self) -> bool:
        return self.seconds > max(settings.HUNG_SECONDS, TIMES_HUNG * self._longest)
