"""What a run says, written to the database in batches and then told to open pages.

Every write names the attempt. A supervisor whose run was taken over writes nothing: `flush` says so
and it ends its child.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.db.models import F
from django.db.models.functions import Now

from trainings import live
from trainings.models import (
    METRIC_FIELDS,
    Checkpoint,
    Sae,
    SaeJob,
    Training,
    TrainingDensity,
    TrainingMetric,
)
from trainings.models.lease import lease_end

logger = logging.getLogger(__name__)

Event = dict[str, Any]
PUBLISH_EVERY = 0.5
RENEW_EVERY = 10.0
FINAL = ("completed", "stopped", "failed")
MAX_WARNINGS = 20
MAX_MARKS = 200
# For the database to take a last write.
LAST_WRITE = 600.0


class LeaseLost(Exception):
    """The run belongs to another attempt, or is gone."""


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


@dataclass
class Recorder:
    """Collects the events of one attempt and writes them at most twice a second."""

    training_id: UUID
    attempt: int
    # Removes the files of a checkpoint whose row is gone.
    discard: Callable[[Path], None] = lambda path: shutil.rmtree(path, onerror=_log_left)
    _events: list[Event] = field(default_factory=list)
    _flushed: float = 0.0

    def take(self, event: Event) -> None:
        self._events.append(event)

    def due(self) -> bool:
        """Whether there is something to write, or the lease wants renewing."""
        age = time.monotonic() - self._flushed
        return age >= (PUBLISH_EVERY if self._events else RENEW_EVERY)

    def flush(self) -> None:
        """Write everything taken so far in one transaction, then publish it.

        Raises `LeaseLost` when the row is no longer this attempt's, and django.db's
        `OperationalError` when the database cannot be written; the events are kept then.
        """
        events = list(self._events)
        with transaction.atomic():
            messages = self._write(events)
        del self._events[: len(events)]
        self._flushed = time.monotonic()
        for event, seq, data in messages:
            live.publish(event, self.training_id, seq, data)
        if any(event["event"] == "checkpoint" for event in events):
            self._thin_out()

    def _write(self, events: list[Event]) -> list[tuple[str, int, dict[str, Any]]]:
        told = _told(events)
        held = Training.objects.held(self.training_id, self.attempt)
        changes = {"lease_expires_at": lease_end(), "event_seq": F("event_seq") + len(told)}
        for event in events:
            changes |= self._row_changes(event)
        if not held.update(**changes):
            raise LeaseLost(f"attempt {self.attempt} of {self.training_id}")
        for event in events:
            self._write_rows(event)
        self._write_points([e for e in events if e["event"] == "progress"])
        if not told:
            return []
        row = Training.objects.values_list("event_seq", flat=True)
        last = row.get(pk=self.training_id)
        first = last - len(told) + 1
        return [(name, first + i, data) for i, (name, data) in enumerate(told)]

    def _row_changes(self, event: Event) -> dict[str, Any]:
        """Columns of the training that follow from one event."""
        kind, step = event["event"], event.get("step")
        here = {} if step is None else {"current_step": step}
        match kind:
            case "phase":
                # The first word of an attempt; what the one before warned of is told again.
                if event["phase"] == "loading_model":
                    return {"phase": event["phase"], "run_warnings": []}
                return {"phase": event["phase"]}
            case "started":
                return {"run_facts": _data(event), **here}
            case "progress":
                return {"latest": _data(event), "phase": "training", **here}
            case "checkpoint":
                return {"interruptions": 0}
            case "completed" | "stopped":
                return {
                    "status": kind,
                    "final_loss": event["final_loss"],
                    "sae_path": event["sae_path"],
                    **here,
                    **_ended(),
                }
            case "failed":
                return {"status": kind, "error_message": event["error"], **_ended()}
        return {}

    def _write_rows(self, event: Event) -> None:
        match event["event"]:
            case "started":
                # What a lost attempt logged after its last checkpoint happens again.
                resumed_from = event.get("resumed_from")
                later = TrainingMetric.objects.filter(training=self.training_id)
                if resumed_from is not None:
                    later = later.filter(step__gt=resumed_from)
                later.delete()
                frames = TrainingDensity.objects.filter(training=self.training_id)
                frames.filter(step__gt=resumed_from or 0).delete()
                self._keep_marks(event)
            case "density":
                TrainingDensity.objects.update_or_create(
                    training_id=self.training_id,
                    step=event["step"],
                    defaults={"tokens": event["tokens"], "density": event["density"]},
                )
            case "checkpoint":
                Checkpoint.objects.update_or_create(
                    training_id=self.training_id,
                    attempt=self.attempt,
                    step=event["step"],
                    defaults={
                        "path": event["checkpoint_path"],
                        "size_bytes": event["bytes"],
                        "sha256": event["sha256"],
                        "fvu": event["fvu"],
                    },
                )
            case "resampled":
                self._add_mark("resampled", event["step"], f"{event['count']:,} latents resampled")
            case "checkpoint_set_aside":
                Checkpoint.objects.filter(
                    training=self.training_id, path=event["checkpoint_path"]
                ).update(set_aside=event["reason"], path=event["moved_to"] or "")
                self._add_warning(_set_aside_warning(event))
            case "warning":
                self._add_warning(event)
            case "completed" | "stopped" if event["sae_path"]:
                sae, _ = Sae.objects.update_or_create(
                    training_id=self.training_id,
                    defaults={
                        "path": event["sae_path"],
                        "format": event["export"]["format"],
                        "step": event["step"],
                        "evaluation": event["evaluation"] or {},
                        "export": event["export"],
                    },
                )
                if settings.EVALUATE and event["event"] == "completed":
                    SaeJob.objects.ask(sae, SaeJob.Kind.EVALUATE, sae.text)

    def _keep_marks(self, event: Event) -> None:
        """Marks of steps that are made again go; one says where the run goes on."""
        step = event.get("resumed_from")
        row = Training.objects.filter(pk=self.training_id)
        marks = [m for m in row.values_list("marks", flat=True).get() if m["step"] <= (step or 0)]
        row.update(marks=marks if step else [])
        if step:
            self._add_mark("resumed", step, f"Attempt {self.attempt} goes on from here")

    def _add_mark(self, kind: str, step: int, text: str) -> None:
        row = Training.objects.filter(pk=self.training_id)
        marks = row.values_list("marks", flat=True).get()
        added = {"kind": kind, "step": step, "text": text}
        row.update(marks=[*marks, added][-MAX_MARKS:])

    def _add_warning(self, event: Event) -> None:
        row = Training.objects.filter(pk=self.training_id)
        warnings = [w for w in row.values_list("run_warnings", flat=True).get() if w]
        kept = [w for w in warnings if w["code"] != event["code"]]
        row.update(run_warnings=[*kept, _data(event)][-MAX_WARNINGS:])

    def _thin_out(self) -> None:
        """Delete checkpoints that nobody needs, now that a newer one lies verified on the disk."""
        held = Training.objects.held(self.training_id, self.attempt).first()
        for surplus in Checkpoint.objects.surplus(held) if held else ():
            # The row first, unless it was pinned meanwhile: a row stands for files that are there.
            if Checkpoint.objects.filter(pk=surplus.pk, pinned=False).delete()[0]:
                self.discard(Path(surplus.path))

    def _write_points(self, points: list[Event]) -> None:
        TrainingMetric.objects.bulk_create(
            [
                TrainingMetric(
                    training_id=self.training_id, **{n: point.get(n) for n in METRIC_FIELDS}
                )
                for point in points
            ],
            update_conflicts=True,
            unique_fields=["training", "step"],
            update_fields=[n for n in METRIC_FIELDS if n != "step"],
        )

    def interrupt(self, reason: str) -> bool:
        """Queue the run again after it stood still, or fail it for this reason if too often."""
        return Training.objects.interrupt(self.training_id, self.attempt, reason)

    def hand_back(self) -> bool:
        """Queue the run again, for the next worker to go on from the newest checkpoint."""
        return Training.objects.hand_back(self.training_id, self.attempt)


def _set_aside_warning(event: Event) -> Event:
    name, moved_to = Path(event["checkpoint_path"]).name, event["moved_to"]
    now = f"it is kept as {Path(moved_to).name}" if moved_to else "nothing of it is left here"
    return {
        "event": "warning",
        "step": event["step"],
        "code": f"checkpoint_set_aside {name}",
        "message": f"The checkpoint {name} was not used: {event['reason']}; {now}. "
        "The run went on from the newest one that verified, or from step 0.",
    }


def _log_left(_function: object, path: str, error: object) -> None:
    logger.warning("%s was not deleted: %s", path, error)


def _told(events: list[Event]) -> list[tuple[str, dict[str, Any]]]:
    """What goes out: progress as one message with all its points, the rest as it came."""
    progress = [e for e in events if e["event"] == "progress"]
    # A histogram is asked for by whoever looks at it.
    told = [(e["event"], _data(e)) for e in events if e["event"] not in ("progress", "density")]
    if progress:
        points = [{n: e.get(n) for n in METRIC_FIELDS} for e in progress]
        # Before a final event, so that nobody sees progress after the end.
        told.insert(0, ("progress", {**_data(progress[-1]), "points": points}))
    return told


def _data(event: Event) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name != "event"}


def _ended() -> dict[str, Any]:
    return {"completed_at": Now(), "lease_expires_at": None, "phase": ""}
