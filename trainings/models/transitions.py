"""The states of a training and the ways between them.

Each transition is one conditional UPDATE that says whether it won; whoever loses changes nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from django.db import models, transaction
from django.db.models import Case, Count, F, Max, Q, Value, When
from django.db.models.functions import Coalesce, Greatest, Now

from trainings import live, nudge
from trainings.needs import Needs
from workers.engine.config import ConfigError, Problem, TrainingConfig, check

from . import catalog
from .lease import LeasedQuerySet
from .sae import Sae
from .sweep import Sweep

if TYPE_CHECKING:
    from .training import Training


class Status(models.TextChoices):
    PENDING = "pending", "Pending"
    RUNNING = "running", "Running"
    COMPLETED = "completed", "Completed"
    FAILED = "failed", "Failed"
    STOPPED = "stopped", "Stopped"


ENDED = (Status.COMPLETED, Status.FAILED, Status.STOPPED)
RESUMABLE = (Status.FAILED, Status.STOPPED)
# An attempt that was lost this often without a new checkpoint will not get through by repeating.
MAX_INTERRUPTIONS = 3


class Priority(models.IntegerChoices):
    """What the page offers; any whole number between is as good."""

    LOW = -10, "Low"
    NORMAL = 0, "Normal"
    HIGH = 10, "High"


ANY_WORKER = Needs()

# Members of a sweep share a stream where their checkpoints are no further apart than this share of
# their steps.
NEAR = 0.1

# The API's range; *Run next* may go above it.
PRIORITIES = (-1000, 1000)


class Place(NamedTuple):
    """How many runs train now, and how many of those that wait come first."""

    running: int = 0
    before: int = 0

    @property
    def ahead(self) -> int:
        return self.running + self.before


# A run whose attempt has ended waits for the next one, unless it was asked to stop.
_ASKED_TO_STOP = Q(stop_requested_at__isnull=False)
GO_ON: dict[str, Any] = {
    "status": Case(When(_ASKED_TO_STOP, then=Value(Status.STOPPED)), default=Value(Status.PENDING)),
    "completed_at": Case(When(_ASKED_TO_STOP, then=Now()), default=None),
    "lease_expires_at": None,
    "phase": "",
}


# A transition and its number in the run's order of events are one: nothing comes between them.
_told_in_one = transaction.atomic


class TrainingQuerySet(LeasedQuerySet):
    def visible(self) -> Self:
        """What the user has not deleted; files of the rest are being removed."""
        return self.filter(delete_requested_at=None)

    def claimable(self) -> Self:
        """Pending, and all it reads is there."""
        return (
            super()
            .claimable()
            .filter(
                model__status=catalog.Status.READY,
                tokenization__status=catalog.Status.READY,
                delete_requested_at=None,
            )
        )

    def hopeless(self) -> Self:
        """Waiting for a model or a tokenization that failed."""
        failed = Q(model__status=catalog.Status.FAILED)
        failed |= Q(tokenization__status=catalog.Status.FAILED)
        return self.filter(failed, status=Status.PENDING)

    def unbegun(self) -> Self:
        """Waiting or running, and without a checkpoint: what they start from is needed."""
        return self.visible().exclude(status__in=ENDED).filter(checkpoints=None)

    def queue(self) -> Self:
        """Pending runs in the order in which they start."""
        return self.visible().filter(status=Status.PENDING).in_order()

    def with_needs(self) -> Iterator[tuple[uuid.UUID, Needs]]:
        """Each id with what the worker must have that runs it."""
        for pk, needs, gpus in self.values_list("pk", "needs", "hyperparameters__gpus"):
            yield pk, Needs.of(needs, gpus)

    def by_status(self) -> dict[str, int]:
        """How many have each status that any has."""
        return dict(self.order_by().values_list("status").annotate(n=Count("pk")))

    def in_order(self) -> Self:
        """The higher priority first, then whoever waits longest."""
        return self.order_by("-priority", "queued_at", "id")

    def places(self) -> dict[uuid.UUID, Place]:
        """Where each pending run stands."""
        running = self.visible().filter(status=Status.RUNNING).count()
        waiting = self.queue().values_list("pk", flat=True)
        return {pk: Place(running, before) for before, pk in enumerate(waiting)}

    def start(
        self,
        *,
        name: str,
        tokenization: catalog.Tokenization,
        config: TrainingConfig,
        priority: int = Priority.NORMAL,
        needs: Needs = ANY_WORKER,
        owner: Any = None,
        sweep: Sweep | None = None,
        pk: uuid.UUID | None = None,
        nudge_workers: bool = True,
    ) -> Training:
        """Insert a pending run and tell the workers; the same pk a second time changes nothing.

        A configuration that continues an SAE comes from `trainings.continuing.settled`. Raises
        `ConfigError` for what cannot be trained on this model, naming each field.
        """
        facts = tokenization.model.facts
        if facts is None:
            raise ConfigError([Problem("model", f"{tokenization.model} is not ready yet.")])
        found = check(config, facts)
        if found:
            raise ConfigError(found)
        start = Sae.objects.to_continue(config.start_from) if config.start_from else None
        training: Training
        training, created = self.get_or_create(
            pk=pk or uuid.uuid4(),
            defaults={
                "name": name,
                "model": tokenization.model,
                "dataset": tokenization.dataset,
                "tokenization": tokenization,
                "layer": config.layer,
                "architecture": config.architecture.value,
                "hyperparameters": config.hyperparameters.model_dump(mode="json"),
                "priority": priority,
                "needs": needs.model_dump(exclude_defaults=True),
                "owner": owner,
                "sweep": sweep,
                "started_from": start,
                "origin": start.origin if start else {},
            },
        )
        if created:
            self._announce(training.pk)
            if nudge_workers:
                nudge.run(training.pk)
        return training

    def claim(self, pk: Any, worker: str, **values: Any) -> int | None:
        first = Coalesce(F("started_at"), Now())
        with transaction.atomic():
            attempt = super().claim(pk, worker, started_at=first, phase="starting", **values)
            if attempt is not None:
                self._announce(pk)
        return attempt

    def claim_group(self, pk: Any, worker: str) -> dict[uuid.UUID, int]:
        """Claim a pending run and all of its sweep that can make their steps with it.

        Their ids and attempts; empty where there was nothing to claim. Workers that come for
        members of one sweep at the same time wait for each other, so that the first has all.
        """
        with transaction.atomic():
            sweep = self.filter(pk=pk).values_list("sweep", flat=True).first()
            others: list[uuid.UUID] = []
            if sweep and Sweep.objects.held(sweep):
                others = self.claimable().filter(sweep=sweep).exclude(pk=pk)._near(pk)
            claimed: dict[uuid.UUID, int] = {}
            for member in (pk, *others):
                attempt = self.claim(member, worker)
                if attempt is not None:
                    claimed[uuid.UUID(str(member))] = attempt
                elif member == pk:
                    break  # somebody else has it, and the others with it
        return claimed

    def _near(self, pk: Any) -> list[uuid.UUID]:
        """Of these the ids of those whose checkpoints are about as far as that one's.

        Who is further would wait, without a step, until the others are there.
        """
        mine, *_ = self.model.objects.filter(pk=pk)._standing() or [(pk, 0, 0)]
        return [
            other
            for other, step, steps in self.in_order()._standing()
            if abs(step - mine[1]) <= NEAR * max(steps, mine[2])
        ]

    def _standing(self) -> list[tuple[uuid.UUID, int, int]]:
        """Of each its id, the step of the newest checkpoint of this run, and how many it makes."""
        usable = Q(checkpoints__set_aside="", checkpoints__attempt__gte=F("fresh_since_attempt"))
        rows = self.annotate(at=Coalesce(Max("checkpoints__step", filter=usable), 0))
        return list(rows.values_list("pk", "at", "hyperparameters__num_steps"))

    @_told_in_one
    def request_stop(self, pk: Any) -> bool:
        """A queued run is stopped at once; a running one is asked to save and end."""
        queued = Q(status=Status.PENDING)
        can_stop = self.filter(queued | Q(status=Status.RUNNING, stop_requested_at=None), pk=pk)
        # One statement: between two, a run could change hands and be missed by both.
        return self._won(
            pk,
            can_stop.update(
                status=Case(When(queued, then=Value(Status.STOPPED)), default=F("status")),
                completed_at=Case(When(queued, then=Now()), default=F("completed_at")),
                stop_requested_at=Case(When(queued, then=None), default=Now()),
            ),
            may_end=True,
        )

    @_told_in_one
    def restart(self, pk: Any, *, from_scratch: bool) -> bool:
        """Queue a failed or stopped run again, from its newest checkpoint or from step 0."""
        again = {"current_step": 0, "latest": {}, "fresh_since_attempt": F("attempt") + 1}
        return self._won(
            pk,
            self.visible()
            .filter(pk=pk, status__in=RESUMABLE)
            .update(
                status=Status.PENDING,
                queued_at=Now(),
                completed_at=None,
                stop_requested_at=None,
                error_message=None,
                interruptions=0,
                **(again if from_scratch else {}),
            ),
        )

    @_told_in_one
    def prioritize(self, pk: Any, priority: int) -> bool:
        """Give a run another place in the queue: now, or for when it waits again."""
        return self._won(pk, self.visible().filter(pk=pk).update(priority=priority))

    @_told_in_one
    def run_next(self, pk: Any) -> bool:
        """Put a pending run before all others. False if it does not wait (any more)."""
        others = self.queue().exclude(pk=pk).aggregate(highest=Max("priority"))["highest"]
        above = F("priority") if others is None else Greatest("priority", others + 1)
        waiting = self.queue().order_by().filter(pk=pk)
        return self._won(pk, waiting.update(priority=above))

    @_told_in_one
    def requeue_lost(self, pk: Any) -> bool:
        """A run whose worker vanished goes on from its newest checkpoint, a few times at most."""
        return self._won(pk, self.lost().filter(pk=pk)._go_on_later(), may_end=True)

    @_told_in_one
    def interrupt(self, pk: Any, attempt: int, reason: str) -> bool:
        """A run that was ended because it stood still goes on as one whose worker vanished."""
        if self._won(pk, self.held(pk, attempt)._go_on_later(), may_end=True):
            return True
        return self.fail(pk, attempt, reason)

    @_told_in_one
    def fail(self, pk: Any, attempt: int, reason: str) -> bool:
        """End an attempt that cannot begin, or was interrupted too often."""
        rows = self.end(pk, attempt, Status.FAILED, **_failed(reason))
        return self._won(pk, rows, may_end=True)

    @_told_in_one
    def hand_back(self, pk: Any, attempt: int) -> bool:
        """A worker that ends in good order leaves its run to the next one, in its old place.

        One that was asked to stop meanwhile is stopped.
        """
        return self._won(pk, self.held(pk, attempt).update(**GO_ON), may_end=True)

    @_told_in_one
    def give_up_lost(self, pk: Any, reason: str) -> bool:
        """Fail a run that is lost once too often."""
        return self._give_up(pk, reason, self.lost().filter(interruptions__gte=MAX_INTERRUPTIONS))

    @_told_in_one
    def give_up_waiting(self, pk: Any, reason: str) -> bool:
        """Fail a run that waits for something that cannot come."""
        return self._give_up(pk, reason, self.filter(status=Status.PENDING))

    def _give_up(self, pk: Any, reason: str, stuck: Self) -> bool:
        failed = {"status": Status.FAILED, "lease_expires_at": None, **_failed(reason)}
        return self._won(pk, stuck.filter(pk=pk).update(**failed), may_end=True)

    def request_delete(self, pk: Any, **as_seen: Any) -> bool:
        """Hide the run and, if it is running, stop it; its files go once nothing writes them.

        `as_seen`: columns that must still have these values.
        """
        with transaction.atomic():  # what is marked and not stopped is not yet to be discarded
            wanted = self.visible().filter(pk=pk, **as_seen)
            marked = wanted.update(delete_requested_at=Now())
            if marked and not self.request_stop(pk):
                self._announce(pk)
        return bool(marked)

    def to_discard(self) -> Self:
        """Deleted by the user and no longer written to by anybody."""
        idle = ~Q(status=Status.RUNNING) | Q(lease_expires_at__lt=Now())
        return self.filter(idle, delete_requested_at__isnull=False)

    def _go_on_later(self) -> int:
        """Queue these runs in their old place unless interrupted too often; how many were.

        Those that were asked to stop are stopped, and keep their checkpoints.
        """
        able = Q(interruptions__lt=MAX_INTERRUPTIONS) | _ASKED_TO_STOP
        return self.filter(able).update(interruptions=F("interruptions") + 1, **GO_ON)

    def _won(self, pk: Any, rows: int, *, may_end: bool = False) -> bool:
        """`may_end`: the run may have reached its end by this."""
        if rows:
            self._announce(pk, may_end=may_end)
        return bool(rows)

    def _announce(self, pk: Any, *, may_end: bool = False) -> None:
        """Tell whoever watches, after the commit, that the run's state is another one.

        An end has the name and the data that it has where the engine tells it.
        """
        rows = self.filter(pk=pk)
        rows.update(event_seq=F("event_seq") + 1)
        columns = ("event_seq", "status", "current_step", "error_message", "sae_path", "final_loss")
        row = rows.values(*columns).first()
        if row is None:
            return  # it was deleted, with its files, since the line before
        event: str = "status"
        data: dict[str, Any] = {}
        if may_end and row["status"] == Status.FAILED:
            event, data = "failed", {"error": row["error_message"], "step": row["current_step"]}
        elif may_end and row["status"] == Status.STOPPED:
            event, told = "stopped", ("sae_path", "final_loss")
            data = {"step": row["current_step"], **{name: row[name] for name in told}}
        transaction.on_commit(partial(live.publish, event, pk, row["event_seq"], data))


def _failed(reason: str) -> dict[str, Any]:
    """What a run that failed keeps."""
    return {"error_message": reason, "completed_at": Now(), "phase": ""}
