"""Finds work that got lost between the database and the workers, and sends it again.

`python -m workers.sweeper` looks every 30 seconds. Any number of sweepers may run: each repair is a
conditional UPDATE, and a message too many costs nothing.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import django
from django.db import OperationalError, transaction
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from django.db.models import Model

    from trainings.models import Training
    from trainings.models.lease import LeasedQuerySet

EVERY = 30.0
# Where the database let this one wait for longer than `LATE`, it let those wait as well who hold
# leases; so long they then have to renew them. They try every 10 s.
LATE, GRACE = 1.0, 15.0
LOG_CHARACTERS = 1000
_LOST_EACH_TIME = (
    "The worker was lost each time it prepared this. Most often the machine ran out of memory or "
    "disk; the worker's log has more."
)
logger = logging.getLogger("workers.sweeper")


class Leases:
    """Which leases count as lost: those that are over, though their holders could renew them."""

    def __init__(self) -> None:
        self._away, self._from = False, 0.0

    def lost(self, rows: LeasedQuerySet) -> list[Any]:
        """Empty while holders may still be on their way. Raises `OperationalError`."""
        begun = time.monotonic()
        try:
            with transaction.atomic():  # as whoever writes
                found = list(rows.lost().select_for_update())
        except OperationalError:
            self._away = True
            raise
        now = time.monotonic()
        if self._away or now - begun > LATE:
            self._away, self._from = False, now + GRACE
        return found if now >= self._from else []


def sweep(leases: Leases | None = None) -> None:
    """Look once; `leases` knows how the database could be reached before."""
    leases = leases or Leases()
    _trainings(leases)
    _catalog(leases)
    _rehearsals(leases)
    _sae_jobs(leases)
    _webhook()
    _workers()


def _workers() -> None:
    from trainings.models import Worker

    Worker.objects.forget()


def _trainings(leases: Leases) -> None:
    from trainings import nudge
    from trainings.models import Training
    from workers.broker import JOBS, TRAININGS

    for training in leases.lost(Training.objects.all()):
        with _alone(training):
            if not Training.objects.requeue_lost(training.pk):
                Training.objects.give_up_lost(training.pk, _lost_too_often(training))
    for training in Training.objects.hopeless().select_related("model", "tokenization"):
        with _alone(training):
            cause = training.model.error_message or training.tokenization.error_message
            reason = f"What it reads could not be prepared: {cause}"
            Training.objects.give_up_waiting(training.pk, reason)
    if _queue_is_empty(TRAININGS):
        for training in Training.objects.claimable().in_order():
            nudge.run(training.pk)
    if _queue_is_empty(JOBS):
        for training in Training.objects.to_discard():
            nudge.discard(training)


@contextmanager
def _alone(row: Model) -> Iterator[None]:
    """One row that cannot be repaired keeps no other from it."""
    try:
        yield
    except OperationalError:
        raise  # the database is away, for all of them
    except Exception:
        logger.exception("%s %s cannot be swept", row._meta.model_name, row.pk)


def _lost_too_often(training: Training) -> str:
    """The cause, as far as it is known, with the last lines of the log."""
    from trainings import logs

    lines = logs.tail(training.log_path, LOG_CHARACTERS).strip()
    return (
        "The worker was lost three times without a new checkpoint. Most often the machine went "
        "down or ran out of memory. The run can be resumed."
        + (f" The last lines of its log:\n{lines}" if lines else "")
    )


def _catalog(leases: Leases) -> None:
    from trainings import nudge
    from trainings.models import Dataset, LanguageModel, Tokenization
    from workers.broker import JOBS

    empty = _queue_is_empty(JOBS)
    for model in (LanguageModel, Dataset, Tokenization):
        for row in leases.lost(model.objects.all()):
            with _alone(row):
                if not model.objects.requeue_lost(row.pk):
                    model.objects.give_up_lost(row.pk, _LOST_EACH_TIME)
        if empty:
            for row in model.objects.claimable():
                nudge.prepare(row)


def _rehearsals(leases: Leases) -> None:
    from trainings import nudge
    from trainings.models import Rehearsal
    from workers.broker import JOBS

    for rehearsal in leases.lost(Rehearsal.objects.all()):
        with _alone(rehearsal):
            if not Rehearsal.objects.requeue_lost(rehearsal.pk):
                Rehearsal.objects.give_up(
                    rehearsal.pk,
                    "The worker was lost each time it measured this. Most often the machine ran "
                    "out of memory: try a smaller batch, buffer or latent dimension.",
                )
    for rehearsal in Rehearsal.objects.forgotten():
        Rehearsal.objects.give_up(
            rehearsal.pk, "No worker came to measure this within an hour. Check that one runs."
        )
    if _queue_is_empty(JOBS):
        for rehearsal in Rehearsal.objects.claimable().order_by("asked_at"):
            nudge.rehearse(rehearsal)
    Rehearsal.objects.prune()


def _sae_jobs(leases: Leases) -> None:
    from trainings import nudge
    from trainings.models import SaeJob
    from workers.broker import SAES

    for job in leases.lost(SaeJob.objects.all()):
        with _alone(job):
            if not SaeJob.objects.requeue_lost(job.pk):
                SaeJob.objects.give_up_lost(
                    job.pk,
                    "The worker was lost each time it worked on this. Most often the machine ran "
                    "out of memory; the worker's log has more.",
                )
    if _queue_is_empty(SAES):
        for job in SaeJob.objects.claimable().order_by("asked_at"):
            nudge.sae_job(job)
    SaeJob.objects.prune()


def _webhook() -> None:
    """Last, and one message for all: a service that is away holds up no other job for long."""
    from trainings import nudge, webhook
    from workers.broker import JOBS

    if webhook.untold().exists() and _queue_is_empty(JOBS):
        nudge.tell()


def _queue_is_empty(queue: str) -> bool:
    """Whether every message was taken: what is still pending then has lost its own."""
    from workers.broker import broker

    try:
        return not broker().client.llen(f"dramatiq:{queue}")
    except RedisError as error:
        logger.warning("Redis cannot be asked: %s", error)
        return False


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "saestudio.settings")
    django.setup()
    from django.db import close_old_connections, connection

    from workers import pulse

    pulse.begin(["sweeper"])
    ending, leases = threading.Event(), Leases()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    while True:
        try:
            sweep(leases)
        except OperationalError as error:
            logger.warning("The database cannot be asked: %s", error)
            connection.close()
        close_old_connections()
        if ending.wait(EVERY):
            return


if __name__ == "__main__":
    main()
