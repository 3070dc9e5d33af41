"""Owns one child process that trains: starts it, hears it, stops it, and says how it ended.

A fault in the child (a segfault, the CUDA driver, the out-of-memory killer) ends one run and never
the worker.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from django.conf import settings
from django.db import OperationalError, connection

from trainings import cache, nudge
from trainings.models import Checkpoint, Training
from workers.engine.config import RunSpec
from workers.engine.events import in_words
from workers.engine.voice import NO_PULSE, PULSE

from . import fleet
from .log import Log
from .recorder import FINAL, Event, LeaseLost, Recorder

logger = logging.getLogger(__name__)

STOPPED_WITHOUT_SAE: Event = {"event": "stopped", "sae_path": None, "final_loss": None}
# Set when this worker is told to end; runs are then saved and queued again.
shutting_down = threading.Event()

# What follows `python` to train what lies in a run folder.
ENGINE = ("-m", "workers.engine")
TICK = 0.2
ASK_EVERY = 1.0
# The child hears that this process lives so often, and ends itself after so long without: before
# the lease, renewed at the latest 10 s before, has run out and a successor starts. Where only the
# database is away the pulse goes on: nobody else can take the run meanwhile, or if this host alone
# is cut off, the successor has a device of its own and all that is written here is fenced.
PULSE_EVERY, PULSE_LOST = 5.0, 40.0
# A child that says nothing for so many seconds is shown as standing still, and ended after
# SAESTUDIO_HUNG_SECONDS; both are longer where the run has been longer between two words before.
STILL, TIMES_STILL, TIMES_HUNG = 60.0, 3, 10
# For the last lines of a child that is gone; for its end after its last word; for the database to
# take that; and between a signal to a whole group and its arrival here.
LOG_PATIENCE, LINGER, LAST_WRITE, GROUP_SIGNAL = 10.0, 30.0, 600.0, 2.0
WISHES = {
    signal.SIGTERM: "Asked to stop: a checkpoint and the SAE first",
    signal.SIGUSR1: "The worker leaves: a checkpoint first, then the run is queued again",
}
SECRETS = (
    "SAESTUDIO_SECRET_KEY",
    "DATABASE_URL",
    "REDIS_URL",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
)


def run_next(worker: str) -> str | None:
    """See the first run of the queue through that this worker can do and nobody else claims.

    Its id, or None.
    """
    if reason := fleet.refusal():
        logger.warning("No training is begun here. %s", reason)
        return None
    mine = fleet.gpus()
    for pk, needs in Training.objects.claimable().in_order().with_needs():
        if needs.met_by(mine) and run(str(pk), worker):
            return str(pk)
    return None


def leaving() -> bool:
    """Whether this worker hands over what it does: it is told to end, or drained."""
    return shutting_down.is_set() or fleet.draining.is_set()


def run(training_pk: str, worker: str, on_event: Callable[[Event], None] | None = None) -> bool:
    """Claim a pending run and see it through. False if there was nothing to claim."""
    attempt = Training.objects.claim(training_pk, worker)
    if attempt is None:
        return False
    training = Training.objects.select_related("model", "dataset", "tokenization").get(
        pk=training_pk
    )
    logger.info("Attempt %s of %s (%s) starts", attempt, training.name, training.pk)
    try:
        Attempt(training, attempt, on_event or (lambda event: None)).run()
    except OSError as error:
        # Its folder cannot be written, or no process can be started: no worker could.
        logger.exception("Attempt %s of %s cannot be made", attempt, training.pk)
        reason = f"The training cannot be started: {error}."
        patiently(lambda: Training.objects.fail(training.pk, attempt, reason))
    except Exception as error:
        logger.exception("Attempt %s of %s ended its supervisor", attempt, training.pk)
        what = f"{type(error).__name__}: {error}".replace("\x00", "")
        reason = f"The worker failed at it ({what}); its log has more."
        patiently(lambda: Training.objects.interrupt(training.pk, attempt, reason))
    return True


def patiently(write: Callable[[], Any]) -> None:
    """Make a last write, as soon as the database can be reached; not for ever."""
    deadline = time.monotonic() + LAST_WRITE
    while True:
        try:
            write()
            return
        except OperationalError:
            connection.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


class Attempt:
    """One try at one training, from the start of its process to the last row it writes."""

    def __init__(self, training: Training, attempt: int, on_event: Callable[[Event], None]) -> None:
        self.training_id: UUID = training.pk
        self.folder, self.log_path = training.attempt_folder(attempt), training.log_path
        self.recorder = Recorder(training.pk, attempt)
        self.on_event = on_event
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.final: Event | None = None
        self.told: signal.Signals | None = None
        self.hung, self._phase, self._step = "", "starting", training.current_step
        self._asked = self._pulsed = self._said_last = 0.0
        self._silence = Silence()
        clear_leftovers(training)
        run_spec(training, attempt).write(self.folder)

    def run(self) -> None:
        with spawn(self.folder, subprocess.PIPE, watched=True) as child:
            assert child.stderr is not None
            with closing(Log(self.log_path, child.stderr.buffer)) as self.log:  # type: ignore[attr-defined]
                attempt = self.recorder.attempt
                self.log.say("INFO", f"Attempt {attempt} starts", attempt=attempt, pid=child.pid)
                self._see_through(child)

    def _see_through(self, child: subprocess.Popen[str]) -> None:
        try:
            self._follow(child)
        except LeaseLost:
            logger.warning("%s was taken over; its process is ended", self.training_id)
            self.log.say("WARNING", "Another worker has taken over; this attempt ends")
            return
        finally:
            end(child)
            self.log.finish(LOG_PATIENCE)
        self._close(child.wait())

    def _follow(self, child: subprocess.Popen[str]) -> None:
        """Hear the child until it has said its last word and is gone."""
        assert child.stdout is not None
        threading.Thread(target=read, args=(child.stdout, self.lines), daemon=True).start()
        while self._take():
            self._pulse(child)
            if self.final is None and self.recorder.due():
                self._flush()
                self._pulse(child)
            if self.told is None and (wish := self._wish()):
                self.told = wish
                self.log.say("INFO", WISHES[wish])
                child.send_signal(wish)
            if self._stands_still(child) or self._lingers():
                return
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=LINGER)

    def _pulse(self, child: subprocess.Popen[str]) -> None:
        """Tell the child that it is watched."""
        if time.monotonic() - self._pulsed < PULSE_EVERY:
            return
        self._pulsed = time.monotonic()
        assert child.stdin is not None
        try:
            os.write(child.stdin.fileno(), PULSE)
        except BrokenPipeError:
            logger.info("The process of %s is ending", self.training_id)

    def _stands_still(self, child: subprocess.Popen[str]) -> bool:
        """Whether the child was given up, because it has said nothing for too long."""
        if self.final is not None:
            return False
        if self._silence.begins():
            self.recorder.take({"event": "phase", "phase": "standing_still"})
        if not self._silence.too_long():
            return False
        self.hung = (
            f"The training stood still for {self._silence.seconds / 60:.0f} minutes and was ended; "
            "its log says where each of its threads stood."
        )
        logger.warning("%s: %s", self.training_id, self.hung)
        self.log.say("ERROR", self.hung)
        child.send_signal(signal.SIGUSR2)
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=2)  # its log is written; then it is ended
        return True

    def _lingers(self) -> bool:
        """Whether the child said its last word long ago; it is ended, then."""
        return self.final is not None and time.monotonic() - self._said_last > LINGER

    def _take(self) -> bool:
        """Take what the child said within one tick. False after its last line."""
        until = time.monotonic() + TICK
        while (left := until - time.monotonic()) > 0:
            try:
                line = self.lines.get(timeout=left)
            except queue.Empty:
                return True
            if line is None:
                return False
            self._hear(line)
        return True

    def _hear(self, line: str) -> None:
        try:
            # No database keeps null characters.
            event = json.loads(line.replace("\\u0000", ""))
            event["event"]
        except (ValueError, TypeError, KeyError, RecursionError):
            logger.warning("%s printed what is no event: %.200s", self.training_id, line)
            return
        if self._silence.broken():
            self.recorder.take({"event": "phase", "phase": self._phase})
        if event["event"] == "beat":
            return
        self._phase = event.get("phase", self._phase)
        if event["event"] in ("started", "progress"):
            self._step = event["step"]
        self._log(event)
        if event["event"] == "stopped" and self.told is None and shutting_down.wait(GROUP_SIGNAL):
            # Whoever ended this worker ended its child, too: nobody asked for this run to stop.
            event = {"event": "paused", "step": event.get("step")}
        if event["event"] in FINAL or event["event"] == "paused":
            self.final, self._said_last = event, time.monotonic()
        if event["event"] != "paused":
            self.recorder.take(event)
        self.on_event(event)

    def _log(self, event: Event) -> None:
        words = in_words(event)
        if words:
            self.log.say(*words, event=event["event"], step=event.get("step"))

    def _flush(self) -> None:
        try:
            self.recorder.flush()
        except OperationalError as error:
            # A locked or restarting database: the events stay here until it is back. A connection
            # that broke would never be a whole one again.
            logger.warning("%s cannot be written yet: %s", self.training_id, error)
            connection.close()

    def _wish(self) -> signal.Signals | None:
        """What the child should hear: put the run aside, stop it, or nothing."""
        if leaving():
            return signal.SIGUSR1
        return signal.SIGTERM if self._stop_requested() else None

    def _stop_requested(self) -> bool:
        if time.monotonic() - self._asked < ASK_EVERY:
            return False
        self._asked = time.monotonic()
        try:
            row = Training.objects.filter(pk=self.training_id)
            return row.filter(stop_requested_at__isnull=False).exists()
        except OperationalError as error:
            logger.warning("%s cannot be read yet: %s", self.training_id, error)
            connection.close()
            return False

    def _close(self, returncode: int) -> None:
        if self.final is None:
            self.final = {"step": self._step, **self._last_word(returncode)}
            self._log(self.final)
            if self.final["event"] in FINAL:
                self.recorder.take(self.final)
        try:
            patiently(self.recorder.flush)
        except LeaseLost:
            return
        if self.final["event"] == "interrupted":
            reason = self.final["error"]
            patiently(lambda: self.recorder.interrupt(reason))
        if self.final["event"] == "paused":
            patiently(self.recorder.hand_back)
            nudge.run(self.training_id)

    def _last_word(self, returncode: int) -> Event:
        """The final event of a child that gave none."""
        if self.told is not None and returncode == -self.told:
            # It heard the signal before it could handle one: nothing had been done yet.
            if self.told == signal.SIGUSR1:
                return {"event": "paused"}
            return STOPPED_WITHOUT_SAE
        frozen = "Its worker was frozen, and the training ended itself."
        cause = self.hung or (frozen if returncode == NO_PULSE else "")
        if cause:
            # Whoever asked it to stop has what was asked for.
            stopped = self.told == signal.SIGTERM
            return STOPPED_WITHOUT_SAE if stopped else {"event": "interrupted", "error": cause}
        return {"event": "failed", "error": how_it_ended(returncode)}


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


def clear_leftovers(training: Training) -> None:
    """Remove what earlier attempts left that no row stands for: checkpoints they were killed in."""
    kept = set(Checkpoint.objects.filter(training=training).values_list("path", flat=True))
    for path in training.folder.glob("attempt-*/checkpoints/*"):
        if str(path) not in kept:
            logger.info("%s belongs to no checkpoint and is removed", path)
            shutil.rmtree(path, ignore_errors=True)


def run_spec(training: Training, attempt: int) -> RunSpec:
    """All that the child needs to know."""
    own = Checkpoint.objects.of_this_run(training).usable()
    return RunSpec(
        training_id=str(training.pk),
        name=training.name,
        attempt=attempt,
        config=training.config,
        model_path=training.model.folder,
        model_name=training.model.known_as,
        tokens_path=training.tokenization.folder,
        dataset_name=training.dataset.name,
        resume_from=tuple(Path(c.path) for c in own.order_by("-step", "-attempt")),
        cache=cache.spec(),
        start_from=training.start_spec,
        ranks=training.config.hyperparameters.gpus,
    )


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
