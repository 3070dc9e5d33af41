"""One try at one training, from the first row that it writes to the last one."""

from __future__ import annotations

import logging
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from django.db import OperationalError, connection

from trainings import cache, store
from trainings.models import Checkpoint, Training
from workers.engine.config import RunSpec
from workers.engine.events import in_words
from workers.engine.voice import NO_PULSE

from . import fleet, supplies
from .log import Log
from .process import how_it_ended
from .recorder import FINAL, Event, LeaseLost, Recorder, patiently
from .supplies import Fetched, Supplies
from .uploads import Uploads

logger = logging.getLogger(__name__)

STOPPED_WITHOUT_SAE: Event = {"event": "stopped", "sae_path": None, "final_loss": None}
# Between a signal to a whole group of processes and its arrival here.
GROUP_SIGNAL = 2.0
WISHES = {
    signal.SIGTERM: "Asked to stop: a checkpoint and the SAE first",
    signal.SIGUSR1: "The worker leaves: a checkpoint first, then the run is queued again",
}


class Attempt:
    """What the process that trains says of one training, and what is written of that.

    `final` is the last word on it, once there is one; `told` what it was asked; `waits` whether it
    was queued again for another worker to go on. With a store, `uploads` bring there what it saves,
    and the last word waits for them.
    """

    def __init__(self, training: Training, attempt: int, on_event: Callable[[Event], None]) -> None:
        self.training_id: UUID = training.pk
        self.folder = training.attempt_folder(attempt)
        self.recorder = Recorder(training.pk, attempt)
        self.on_event = on_event
        self.final: Event | None = None
        self.told: signal.Signals | None = None
        self.waits = False
        self.uploads: Uploads | None = None
        self._training, self._unsaid, self._concluded = training, list[Event](), False
        self._phase, self._step = "starting", training.current_step
        clear_leftovers(training)
        run_spec(training, attempt).write(self.folder)
        self.log = Log(training.log_of(attempt))
        if store.on():
            self.uploads = Uploads(self.log.say)
            self.recorder.discard = self.uploads.discard

    @property
    def uploading(self) -> bool:
        return self.uploads is not None and self.uploads.busy

    def supplies(self) -> Supplies:
        """What must be on this host before its process starts."""
        self.recorder.take({"event": "phase", "phase": "fetching"})
        return Supplies.of(self._training)

    def supplied(self, found: Fetched) -> None:
        """It goes on from the newest checkpoint that is here now."""
        for event in found.adopted:
            self.recorder.take(event)
        # Once its process has begun: that forgets what the attempt before warned of.
        self._unsaid = found.set_aside
        spec = run_spec(self._training, self.recorder.attempt)
        spec = spec.model_copy(update={"resume_from": found.checkpoints})
        spec.write(self.folder)

    def ends_before_it_begins(self, event: Event) -> None:
        """`event` is the last word of one whose process is never started."""
        self.final = {"step": self._step, **event}
        self._log(self.final)

    def begin(self, pid: int, together: int) -> None:
        number = self.recorder.attempt
        self.log.say("INFO", f"Attempt {number} starts", attempt=number, pid=pid)
        if together > 1:
            self.log.say("INFO", f"It shares its activations with {together - 1} of its sweep")

    def hear(self, event: Event) -> None:
        self._phase = event.get("phase", self._phase)
        if event["event"] in ("started", "progress"):
            self._step = event["step"]
        self._log(event)
        stopped = event["event"] == "stopped" and self.told is None
        if stopped and fleet.shutting_down.wait(GROUP_SIGNAL):
            # Whoever ended this worker ended its child, too: nobody asked for this run to stop.
            event = {"event": "paused", "step": event.get("step")}
        if event["event"] in FINAL or event["event"] == "paused":
            self.final = event
        if self.uploads is not None:
            self._send(self.uploads, event)
        elif event["event"] != "paused":
            self.recorder.take(event)
        self.on_event(event)

    def _send(self, uploads: Uploads, event: Event) -> None:
        """Hold back what speaks of files until they are up."""
        if event["event"] == "checkpoint":
            uploads.checkpoint(event)
        elif self.final is not event:
            self.recorder.take(event)
        if event["event"] == "phase" and event["phase"] == "loading_model":
            for unsaid in self._unsaid:
                self.recorder.take(unsaid)
            self._unsaid = []
        if self.final is event:
            if sae := event.get("sae_path"):
                uploads.sae(Path(sae))
            self.hurry()

    def hurry(self) -> None:
        """Its last word is said: what is on its way has not for ever."""
        if self.uploads is not None:
            self.uploads.hurry(fleet.shutting_down.is_set())

    def stands_still(self) -> None:
        self.recorder.take({"event": "phase", "phase": "standing_still"})

    def goes_on(self) -> None:
        self.recorder.take({"event": "phase", "phase": self._phase})

    def tell(self, wish: signal.Signals) -> None:
        """It is asked this, and the log says so."""
        self.told = wish
        self.log.say("INFO", WISHES[wish])

    def flush(self) -> None:
        """Write what is due. Raises `LeaseLost`."""
        self._take_arrived()
        if not self.recorder.due():
            return
        try:
            self.recorder.flush()
        except OperationalError as error:
            self._not_yet(error)

    def settled(self) -> bool:
        """Write the last word of one that ended while others of its process go on.

        False where the database cannot take it yet.
        """
        try:
            self._settle()
        except OperationalError as error:
            self._not_yet(error)
            return False
        return True

    def ends(self, returncode: int, hung: str) -> None:
        """Its process has ended so, `hung` saying why where it was given up."""
        if self.final is None:
            self.final = {"step": self._step, **self._last_word(returncode, hung)}
            self._log(self.final)
            if self.uploads is not None:
                self.hurry()
            elif self.final["event"] in FINAL:
                self.recorder.take(self.final)

    def close(self) -> None:
        """Write the last word, now that all is up or given up."""
        patiently(self._settle)

    def keep_log(self) -> None:
        """Where the page of another host finds it; nothing depends on that."""
        if self.uploads is not None:
            self.uploads.keep_log(self._training.log_of(self.recorder.attempt))

    def lost(self) -> None:
        if self.uploads is not None:
            self.uploads.end()
        logger.warning("%s was taken over; it goes on elsewhere", self.training_id)
        self.log.say("WARNING", "Another worker has taken over; this attempt ends")

    def _take_arrived(self) -> None:
        if self.uploads is not None:
            for event in self.uploads.arrived():
                self.recorder.take(event)

    def _conclude(self, uploads: Uploads) -> None:
        """The last word, or what became of it where files of it could not be put up."""
        assert self.final is not None
        self._take_arrived()
        if uploads.failure:
            self.final = self._without_files(self.final, uploads.failure)
            uploads.failure = ""
        if self.final["event"] in FINAL and not self._concluded:
            self.recorder.take(self.final)
        self._concluded = True

    def _without_files(self, final: Event, failure: str) -> Event:
        step = final.get("step", self._step)
        again = {"event": "interrupted", "step": step, "error": failure}
        if final["event"] in ("paused", "interrupted"):
            return again
        cause = f"{final['error'].rstrip()} " if final["event"] == "failed" else ""
        how = f"{cause}{failure} Resume it once the store can be reached."
        return {"event": "failed", "step": step, "error": how}

    def _settle(self) -> None:
        assert self.final is not None
        if self.uploads is not None:
            self._conclude(self.uploads)
        try:
            self.recorder.flush()
        except LeaseLost:
            self.lost()
            return
        if self.final["event"] == "interrupted":
            self.recorder.interrupt(self.final["error"])
        if self.final["event"] == "paused":
            self.waits = self.recorder.hand_back()

    def _not_yet(self, error: OperationalError) -> None:
        """A locked or restarting database: the events stay here until it is back. A connection
        that broke would never be a whole one again."""
        logger.warning("%s cannot be written yet: %s", self.training_id, error)
        connection.close()

    def _log(self, event: Event) -> None:
        words = in_words(event)
        if words:
            self.log.say(*words, event=event["event"], step=event.get("step"))

    def _last_word(self, returncode: int, hung: str) -> Event:
        """The final event of a process that gave none."""
        if self.told is not None and returncode == -self.told:
            # It heard the signal before it could handle one: nothing had been done yet.
            if self.told == signal.SIGUSR1:
                return {"event": "paused"}
            return STOPPED_WITHOUT_SAE
        frozen = "Its worker was frozen, and the training ended itself."
        cause = hung or (frozen if returncode == NO_PULSE else "")
        if cause:
            # Whoever asked it to stop has what was asked for.
            stopped = self.told == signal.SIGTERM
            return STOPPED_WITHOUT_SAE if stopped else {"event": "interrupted", "error": cause}
        return {"event": "failed", "error": how_it_ended(returncode)}


def clear_leftovers(training: Training) -> None:
    """Remove what earlier attempts left that no row stands for: checkpoints they were killed in.

    With a store, one that is whole and newer than all others waits for it.
    """
    kept = set(Checkpoint.objects.filter(training=training).values_list("path", flat=True))
    unsent = supplies.unsent(training) if store.on() else None
    for path in training.folder.glob("attempt-*/checkpoints/*"):
        if str(path) not in kept and path != unsent:
            logger.info("%s belongs to no checkpoint and is removed", path)
            shutil.rmtree(path, ignore_errors=True)


def run_spec(training: Training, attempt: int) -> RunSpec:
    """All that the child needs to know."""
    return RunSpec(
        training_id=str(training.pk),
        name=training.name,
        attempt=attempt,
        config=training.config,
        model_path=training.model.folder,
        model_name=training.model.known_as,
        tokens_path=training.tokenization.folder,
        dataset_name=training.dataset.name,
        resume_from=Checkpoint.objects.to_go_on_from(training),
        cache=cache.spec(),
        start_from=training.start_spec,
        ranks=training.config.hyperparameters.gpus,
    )
