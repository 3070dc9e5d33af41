"""`python -m workers.engine RUN_DIR`: one training as a process of its own.

Prints one JSON object per event on standard output and nothing else there; logs to standard error.
SIGTERM and SIGINT ask it to stop at the next step, with checkpoint and SAE; SIGUSR1 asks for the
checkpoint alone; SIGUSR2 writes to the log where every thread stands. Exit status 0 after
`completed`, `stopped` or `paused`, 1 after `failed`. Where run.json asks for several ranks, this
process starts them and passes on to them what it is told.

`python -m workers.engine --sweep FOLDER`: the run folders that FOLDER/members.json lists, on one
stream of activations. Each event has the `training_id` of its run; signals are for all of them, and
a line `stop TRAINING_ID` on standard input is for one.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import TextIO

from .json_lines import JsonLines
from .leaving import Leaving
from .parent import die_with_parent, hear
from .voice import Voice, end_without_pulse, listen

# glibc's names for what `mallopt` sets, and the most it takes for the first.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 * 1024 * 1024


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m workers.engine", description=__doc__)
    parser.add_argument("run_dir", type=Path, help="folder with run.json, job.json or members.json")
    parser.add_argument(
        "--rehearse", action="store_true", help="only measure what it will take; print one event"
    )
    parser.add_argument(
        "--job", action="store_true", help="do what job.json says with an SAE on the disk"
    )
    parser.add_argument(
        "--sweep",
        action="store_true",
        help="train the run folders in members.json on one stream of activations",
    )
    parser.add_argument(
        "--watched",
        type=float,
        metavar="SECONDS",
        help="print signs of life, and end once nothing has come over standard input for so long",
    )
    parser.add_argument("--parent", type=int, help="process id of whoever starts this")
    arguments = parser.parse_args()
    run_dir = arguments.run_dir
    die_with_parent(signal.SIGKILL, arguments.parent or os.getppid())
    leaving = Leaving()
    among_ranks = "TORCHELASTIC_RUN_ID" in os.environ
    if arguments.watched and not among_ranks:  # else whoever started it listens for all of them
        end_without_pulse(sys.stdin.fileno(), arguments.watched, leaving.hear)
    elif arguments.sweep:
        listen(sys.stdin.fileno(), leaving.hear)
    faulthandler.register(signal.SIGUSR2)
    stop = _set_by(signal.SIGTERM, signal.SIGINT)
    pause = _set_by(signal.SIGUSR1)
    hear()
    out = _events_only()
    _log(as_json=bool(arguments.watched))
    # OpenMP's threads spin while they wait for each other, which is ruinous where another process
    # (the web server, a browser) wants the same cores: measured in docs/performance.md.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _keep_freed_memory()
    # Only now the slow imports: a signal that comes during them is already heard.
    if arguments.job:
        from .sae_job import work

        return work(run_dir.absolute(), out)
    voice = Voice(out, beats=bool(arguments.watched))
    if arguments.sweep:
        from .sweep import sweep

        return sweep(run_dir.absolute(), voice, stop, pause, leaving)
    from .run import rehearsed, run

    if arguments.rehearse:
        return rehearsed(run_dir.absolute(), out)
    words = ("--watched", f"{arguments.watched:g}") if arguments.watched else ()
    return run(run_dir.absolute(), voice, stop, pause, words)


def _log(*, as_json: bool) -> None:
    """To standard error: lines for people, or for the supervisor's log."""
    handler = logging.StreamHandler(sys.stderr)
    plain = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(JsonLines() if as_json else plain)
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _keep_freed_memory() -> None:
    """Have glibc reuse the memory of large tensors instead of giving it back and asking again.

    Fresh pages are cleared by the kernel: a tenth of the time of reading activations on two cores.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, 2**30)


def _set_by(*signals: signal.Signals) -> threading.Event:
    """An event that any of these signals sets."""
    asked = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        asked.set()

    for number in signals:
        signal.signal(number, ask)
    return asked


def _events_only() -> TextIO:
    """Standard output for events alone: what a library prints goes to standard error."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return out


if __name__ == "__main__":
    sys.exit(main())
