"""Sees trainings through: claims them, and owns the child process that trains them.

One run has a process of its own. Those of a sweep share one, and with it their activations; each
has its row, its log and its lease all the same.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing, suppress
from typing import Any
from uuid import UUID

from django.db import OperationalError, connection

from trainings import nudge, store
from trainings.models import Training
from trainings.store import Away, StoreError
from workers.engine.config.members import write_members
from workers.engine.voice import PULSE

from . import fleet, process
from .attempt import STOPPED_WITHOUT_SAE, Attempt
from .beside import beside
from .log import Copying
from .process import LINGER, PULSE_EVERY, Silence
from .recorder import Event, LeaseLost, patiently

logger = logging.getLogger(__name__)

ASK_EVERY = 1.0
# For the last lines of a child that is gone.
LOG_PATIENCE = 10.0
Told = Callable[[Event], None]


def run_next(worker: str) -> list[UUID]:
    """See the first run of the queue through that this worker can do and nobody else claims.

    Of a sweep all that wait come with it. Their ids; empty where there was nothing to do.
    """
    if reason := fleet.refusal():
        logger.warning("No training is begun here. %s", reason)
        return []
    mine = fleet.gpus()
    for pk, needs in Training.objects.claimable().in_order().with_needs():
        if needs.met_by(mine) and (found := run_group(pk, worker)):
            return found
    return []


def run(training_pk: str, worker: str, on_event: Told = lambda event: None) -> bool:
    """Claim a pending run and see it through. False if there was nothing to claim."""
    attempt = Training.objects.claim(training_pk, worker)
    if attempt is None:
        return False
    _see_through({UUID(str(training_pk)): attempt}, on_event)
    return True


def run_group(training_pk: UUID, worker: str) -> list[UUID]:
    """The same with all of its sweep that can share its activations; the ids of those."""
    claimed = Training.objects.claim_group(training_pk, worker)
    if claimed:
        _see_through(claimed, lambda event: None)
    return list(claimed)


def _see_through(claimed: dict[UUID, int], on_event: Told) -> None:
    """Train what was claimed, to its end."""
    rows = Training.objects.select_related("model", "dataset", "tokenization").in_bulk(claimed)
    with ExitStack() as logs:
        begun = []
        for pk, attempt in claimed.items():
            training = rows.get(pk)  # none, if it was deleted meanwhile
            if training and (made := _made(training, attempt, on_event)):
                logs.enter_context(closing(made.log))
                begun.append(made)
                logger.info("Attempt %s of %s (%s) starts", attempt, training.name, pk)
        if not begun:
            return
        group = Group(begun)
        try:
            group.run()
        except Exception as error:
            logger.exception("The process of %s cannot be seen through", group)
            for one in group.open:
                _ended_by(error, one.training_id, one.recorder.attempt)
    for one in begun:
        one.keep_log()


def _made(training: Training, attempt: int, on_event: Told) -> Attempt | None:
    """None where it cannot even begin, and its row says so."""
    try:
        return Attempt(training, attempt, on_event)
    except Exception as error:
        logger.exception("Attempt %s of %s cannot be made", attempt, training.pk)
        _ended_by(error, training.pk, attempt)
        return None


def _ended_by(error: Exception, pk: UUID, attempt: int) -> None:
    """The row after what nobody foresaw; whatever it was, this worker goes on."""
    if isinstance(error, OSError):
        # Its folder cannot be written, or no process can be started: no worker could.
        reason = f"The training cannot be started: {error}."
        patiently(lambda: Training.objects.fail(pk, attempt, reason))
        return
    what = f"{type(error).__name__}: {error}".replace("\x00", "")
    reason = f"The worker failed at it ({what}); its log has more."
    patiently(lambda: Training.objects.interrupt(pk, attempt, reason))


class Group:
    """One child process and the attempts it makes: one, or those of a sweep.

    `open` are those whose last word is not written yet.
    """

    def __init__(self, attempts: Iterable[Attempt]) -> None:
        self.open = list(attempts)
        self._all = {str(one.training_id): one for one in self.open}
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._silence, self._hung = Silence(), ""
        self._leaves = self._alone = False
        self._asked = self._pulsed = self._said_last = 0.0

    def __str__(self) -> str:
        return ", ".join(self._all)

    @property
    def _live(self) -> list[Attempt]:
        """Those that have not said their last word."""
        return [one for one in self.open if one.final is None]

    def run(self) -> None:
        if store.on():
            self._fetch()
        if self._live:
            self._train()
        ended = self._await_uploads()
        for one in tuple(self.open):
            one.close()
            self.open.remove(one)
            ended.append(one)
        _pass_on(ended)

    def _fetch(self) -> None:
        """Have here what the process reads; those that cannot have it do not begin."""
        wanted = {one: one.supplies() for one in self.open}
        for one, supplies in wanted.items():
            if one not in self._live:
                continue
            try:
                found = beside(supplies.fetch, self._meanwhile)
                if one in self._live:
                    one.supplied(found)
            except Away as error:
                one.ends_before_it_begins({"event": "interrupted", "error": str(error)})
            except StoreError as error:
                why = f"What it reads cannot be fetched. {error}"
                one.ends_before_it_begins({"event": "failed", "error": why})
            except OSError as error:
                why = f"What it reads cannot be written to the disk of this host: {error}."
                one.ends_before_it_begins({"event": "failed", "error": why})
            except _Nobody:
                return

    def _meanwhile(self) -> None:
        """Keep the leases while something is fetched. Raises `_Nobody` once no run waits for it."""
        for one in self._live:
            self._keep(one)
        if fleet.leaving():
            for one in self._live:
                one.ends_before_it_begins({"event": "paused"})
        wanted = self._stop_requested()
        for one in self._live:
            if one.training_id in wanted:
                one.ends_before_it_begins(STOPPED_WITHOUT_SAE)
        if not self._live:
            raise _Nobody

    def _keep(self, one: Attempt) -> None:
        try:
            one.flush()
        except LeaseLost:
            one.lost()
            self.open.remove(one)

    def _await_uploads(self) -> list[Attempt]:
        """Keep the leases of those whose files are on their way; the others, which it returns, are
        free meanwhile."""
        ended: list[Attempt] = []
        while any(one.uploading for one in self.open):
            for one in [one for one in self.open if one.uploading]:
                one.hurry()
                self._keep(one)
            ended += self._settle([one for one in self.open if not one.uploading])
            time.sleep(process.TICK)
        return ended

    def _settle(self, ended: Iterable[Attempt]) -> list[Attempt]:
        """Write the last words of these; the database has taken them of those it returns."""
        settled = [one for one in ended if one.settled()]
        for one in settled:
            one.log.close()
            self.open.remove(one)
        return settled

    def _train(self) -> None:
        """One process for all that have not ended before it began."""
        with self._spawned() as child:
            assert child.stderr is not None
            logs = [one.log for one in self._live]
            copying = Copying(child.stderr.buffer, logs)  # type: ignore[attr-defined]
            for one in self._live:
                one.begin(child.pid, len(self._live))
            try:
                self._follow(child)
            finally:
                process.end(child)
                copying.finish(LOG_PATIENCE)
            returncode = child.wait()
        for one in self.open:
            one.ends(returncode, self._hung)

    def _spawned(self) -> subprocess.Popen[str]:
        first, *others = self._live
        self._alone = not others
        words: tuple[str, ...] = ()
        if others:
            write_members(first.folder, [one.folder for one in self._live])
            words = ("--sweep",)
        return process.spawn(first.folder, subprocess.PIPE, *words, watched=True)

    def _follow(self, child: subprocess.Popen[str]) -> None:
        """Hear the child until it has said its last word and is gone."""
        assert child.stdout is not None
        reading = (child.stdout, self._lines)
        threading.Thread(target=process.read, args=reading, daemon=True).start()
        while self._take():
            self._pulse(child)
            for one in [one for one in self.open if one.final is None or one.uploading]:
                self._flush(one, child)
            if not self.open:
                return  # all were taken over
            self._settle_some()
            self._pass_on_wishes(child)
            if self._stands_still(child) or self._lingers():
                return
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=LINGER)

    def _flush(self, one: Attempt, child: subprocess.Popen[str]) -> None:
        try:
            one.flush()
        except LeaseLost:
            one.lost()
            self.open.remove(one)
            if self.open:
                self._say(child, _stop(one))
        self._pulse(child)

    def _settle_some(self) -> None:
        """Those that ended while others go on are free: nobody need wait for the rest."""
        if not self._live:
            return
        ended = [one for one in self.open if one.final is not None and not one.uploading]
        _pass_on(self._settle(ended))

    def _pulse(self, child: subprocess.Popen[str]) -> None:
        """Tell the child that it is watched."""
        if time.monotonic() - self._pulsed < PULSE_EVERY:
            return
        self._pulsed = time.monotonic()
        self._say(child, PULSE)

    def _say(self, child: subprocess.Popen[str], words: bytes) -> None:
        assert child.stdin is not None
        try:
            os.write(child.stdin.fileno(), words)
        except BrokenPipeError:
            logger.info("The process %s is ending", child.pid)

    def _pass_on_wishes(self, child: subprocess.Popen[str]) -> None:
        """Have the child put all aside, or stop those that were asked to; each hears one wish."""
        if self._leaves:
            return
        if fleet.leaving():
            self._leaves = True
            waiting = [one for one in self._live if one.told is None]
            for one in waiting:
                one.tell(signal.SIGUSR1)
            if waiting:
                child.send_signal(signal.SIGUSR1)
            return
        wanted = self._stop_requested()
        for one in self._live:
            if one.training_id in wanted and one.told is None:
                one.tell(signal.SIGTERM)
                if self._alone:
                    child.send_signal(signal.SIGTERM)
                else:
                    self._say(child, _stop(one))

    def _stop_requested(self) -> set[UUID]:
        """Those that somebody wants to end; asked once a second."""
        if time.monotonic() - self._asked < ASK_EVERY:
            return set()
        self._asked = time.monotonic()
        rows = Training.objects.filter(pk__in=[one.training_id for one in self._live])
        try:
            asked = rows.filter(stop_requested_at__isnull=False)
            return set(asked.values_list("pk", flat=True))
        except OperationalError as error:
            logger.warning("The wishes cannot be read yet: %s", error)
            connection.close()
            return set()

    def _stands_still(self, child: subprocess.Popen[str]) -> bool:
        """Whether the child was given up, because it has said nothing for too long."""
        if not self._live:
            return False
        if self._silence.begins():
            for one in self._live:
                one.stands_still()
        if not self._silence.too_long():
            return False
        self._hung = (
            f"The training stood still for {self._silence.seconds / 60:.0f} minutes and was ended; "
            "its log says where each of its threads stood."
        )
        for one in self._live:
            logger.warning("%s: %s", one.training_id, self._hung)
            one.log.say("ERROR", self._hung)
        child.send_signal(signal.SIGUSR2)
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=2)  # its log is written; then it is ended
        return True

    def _lingers(self) -> bool:
        """Whether the child said its last word long ago; it is ended, then."""
        return not self._live and time.monotonic() - self._said_last > LINGER

    def _take(self) -> bool:
        """Take what the child said within one tick. False after its last line."""
        until = time.monotonic() + process.TICK
        while (left := until - time.monotonic()) > 0:
            try:
                line = self._lines.get(timeout=left)
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
            kind = event["event"]
            whose = event.pop("training_id", None)
        except (ValueError, TypeError, KeyError, RecursionError):
            logger.warning("What was printed is no event: %.200s", line)
            return
        if self._silence.broken():
            for one in self._live:
                one.goes_on()
        if kind == "beat":
            return
        for one in self._of(whose):
            one.hear(event)
            if one.final is not None:
                self._said_last = time.monotonic()

    def _of(self, training_id: Any) -> list[Attempt]:
        """The live one that an event is about; all of them, where it names none."""
        if training_id is None:
            return self._live
        named = self._all.get(str(training_id))
        return [named] if named in self._live else []


def _pass_on(ended: Iterable[Attempt]) -> None:
    """Once all of them wait, so that whoever takes one takes all: tell a worker."""
    for one in ended:
        if one.waits:
            nudge.run(one.training_id)


class _Nobody(Exception):
    """No run waits for what is being fetched."""


def _stop(one: Attempt) -> bytes:
    """The line that asks a process of several trainings to end this one."""
    return f"stop {one.training_id}\n".encode()
