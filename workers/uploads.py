"""What an attempt saves on its way into the store, in a thread of its own.

A row of a checkpoint stands for files that are there, so what the run said of it is handed on only
once it is up. The training never waits: of checkpoints that come faster than they can be sent, the
newest is. Only the last word waits, and not for ever.
"""

from __future__ import annotations

import json
import logging
import shutil
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainings import store
from trainings.store import StoreError

logger = logging.getLogger(__name__)

Event = dict[str, Any]
Say = Callable[..., None]
# Seconds after the last word until it is given up; a service manager that ends a worker waits less.
PATIENCE, PATIENCE_LEAVING = 600.0, 60.0
# Between two tries, each of which is several; growing from the first to the second.
PAUSES = (5.0, 60.0)
LOG_PATIENCE = 10.0


class _GivenUp(Exception):
    """There was time enough."""


@dataclass(frozen=True)
class _Job:
    """One artefact; `event` is what is told once it is up, `kind` what it is called."""

    kind: str
    path: Path
    event: Event | None = None


class Uploads:
    """Of one attempt. All methods but those of the thread are called by the supervisor's own."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._jobs: deque[_Job] = deque()
        self._arrived: deque[Event] = deque()
        self._changed = threading.Condition()
        self._working = False
        self._deadline = float("inf")
        self._told_of_trouble, self._trouble_was = False, ""
        self._thread: threading.Thread | None = None
        # Why something was given up; empty as long as nothing was.
        self.failure = ""

    @property
    def busy(self) -> bool:
        """Whether something is on its way."""
        with self._changed:
            return bool(self._jobs) or self._working

    def arrived(self) -> list[Event]:
        """What may be written since this was last asked: checkpoints that are up, and warnings."""
        found = []
        while self._arrived:
            found.append(self._arrived.popleft())
        return found

    def checkpoint(self, event: Event) -> None:
        """Have it sent, and what was said of it told afterwards."""
        newer = _Job("checkpoint", Path(event["checkpoint_path"]), event)
        with self._changed:
            passed_over = [job for job in self._jobs if job.kind == "checkpoint"]
            for job in passed_over:
                self._jobs.remove(job)
        for job in passed_over:
            self._say("WARNING", f"{job.path.name} is left out: the store is slower than the run")
            shutil.rmtree(job.path, ignore_errors=True)
        self._add(newer)

    def sae(self, path: Path) -> None:
        self._add(_Job("SAE", path))

    def discard(self, path: Path) -> None:
        """Remove a checkpoint whose row is gone, here and there."""
        shutil.rmtree(path, ignore_errors=True)
        self._add(_Job("removal", path))

    def hurry(self, leaving: bool) -> None:
        """The last word is said: what is on its way has not for ever; less if the worker ends."""
        seconds = PATIENCE_LEAVING if leaving else PATIENCE
        with self._changed:
            self._deadline = min(self._deadline, time.monotonic() + seconds)
            self._changed.notify_all()

    def keep_log(self, path: Path) -> None:
        """Send the log of an attempt that is over; nothing depends on it."""
        self._deadline = time.monotonic() + LOG_PATIENCE
        self._add(_Job("log", path))
        with self._changed:
            self._changed.wait_for(lambda: not (self._jobs or self._working), LOG_PATIENCE)

    def end(self) -> None:
        """Nobody waits for the rest."""
        with self._changed:
            self._jobs.clear()
            self._deadline = 0.0
            self._changed.notify_all()

    def _add(self, job: _Job) -> None:
        with self._changed:
            self._jobs.append(job)
            if not self._working:
                self._working = True
                name = "uploads"
                self._thread = threading.Thread(target=self._work, name=name, daemon=True)
                self._thread.start()

    def _work(self) -> None:
        """Until nothing is left to do; the next job begins another thread."""
        while True:
            with self._changed:
                if not self._jobs:
                    self._working = False
                    self._changed.notify_all()
                    return
                job = self._jobs.popleft()
            self._see_through(job)

    def _see_through(self, job: _Job) -> None:
        pause, most = PAUSES
        why = self._trouble_was or "there was no time left for it"
        while True:
            begun = time.monotonic()
            try:
                self._go_on()
                self._do(job)
            except _GivenUp:
                self._give_up(job, why)
                return
            except OSError as error:
                self._cannot_be_read(job, error)
                return
            except StoreError as error:
                why = str(error)
                self._trouble(job, why)
                if job.kind in ("removal", "log"):
                    return
            except Exception as error:
                logger.exception("%s cannot be put into the store", job.path)
                self._give_up(job, f"{type(error).__name__}: {error}")
                return
            else:
                self._done(job, time.monotonic() - begun)
                return
            with self._changed:
                left = self._deadline - time.monotonic()
                self._changed.wait(max(0.0, min(pause, left)))
            pause = min(2 * pause, most)

    def _do(self, job: _Job) -> None:
        if job.kind == "removal":
            store.discard(job.path, self._go_on)
        elif job.kind == "checkpoint":
            store.put(job.path, self._go_on, expected=written_files(job.path))
        else:
            store.put(job.path, self._go_on)

    def _done(self, job: _Job, seconds: float) -> None:
        if job.kind in ("checkpoint", "SAE"):
            self._say("INFO", f"The {job.kind} {job.path.name} is in the store ({seconds:.1f} s)")
        if job.event is not None:
            self._arrived.append(job.event)

    def _trouble(self, job: _Job, why: str) -> None:
        """The log has each, the page the first."""
        self._trouble_was = why
        self._say("WARNING", f"{job.path.name} could not be brought to the store yet: {why}")
        logger.warning("%s: %s", job.path, why)
        if not self._told_of_trouble and job.kind in ("checkpoint", "SAE"):
            self._told_of_trouble = True
            step = (job.event or {}).get("step", 0)
            message = f"The {job.kind} {job.path.name} waits for the store. {why}"
            warning = {"event": "warning", "step": step, "code": "store_away", "message": message}
            self._arrived.append(warning)

    def _cannot_be_read(self, job: _Job, error: OSError) -> None:
        """A checkpoint that is harmed here is none; the run goes on, and has others."""
        why = f"it cannot be read: {error}"
        if job.event is None:
            self._give_up(job, why)
            return
        message = f"The checkpoint {job.path.name} was not put into the store: {why}."
        self._say("WARNING", message)
        code = f"checkpoint_unreadable {job.path.name}"
        step = job.event["step"]
        self._arrived.append({"event": "warning", "step": step, "code": code, "message": message})

    def _give_up(self, job: _Job, why: str) -> None:
        if job.kind not in ("checkpoint", "SAE"):
            logger.warning("%s was given up: %s", job.path, why)
            return
        self.failure = (
            f"The {job.kind} {job.path.name} could not be put into the store: {why.rstrip('.')}. "
            f"It is kept on {socket.gethostname()} in {job.path}."
        )
        self._say("ERROR", self.failure)

    def _go_on(self) -> None:
        if time.monotonic() > self._deadline:
            raise _GivenUp


def written_files(path: Path) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of a checkpoint's files as its own manifest has them.

    Raises `OSError` where it cannot be read.
    """
    try:
        files = json.loads((path / "manifest.json").read_text(encoding="utf-8"))["files"]
        return {name: (each["bytes"], each["sha256"]) for name, each in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OSError(f"the manifest of {path.name} is damaged ({error})") from error
