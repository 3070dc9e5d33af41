"""This worker among the studio's others: what it is, and whether it may begin something.

A process that was not enlisted, as a command in a terminal, does what it is told.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import uuid
from collections.abc import Sequence

from trainings import store
from trainings.models import Release, Training, Worker
from trainings.models.worker import REFUSAL_CHARACTERS

from . import release
from .gpus import Gpu

# This worker is told to end; runs are then saved and queued again.
shutting_down = threading.Event()
# An administrator wants this worker to hand over what it does.
draining = threading.Event()
# Of the runs that wait, as many are looked at as another worker could be told of.
_LOOKED_AT = 100
_rows: list[uuid.UUID] = []
logger = logging.getLogger(__name__)


def name() -> str:
    """As rows call who holds them."""
    return f"{socket.gethostname()}:{os.getpid()}"


def leaving() -> bool:
    """Whether this worker hands over what it does: it is told to end, or drained."""
    return shutting_down.is_set() or draining.is_set()


def enlist(rows: Sequence[uuid.UUID]) -> None:
    """This process is these rows of the workers' table."""
    _rows[:] = rows


def look() -> None:
    """See whether this worker is being drained."""
    drains = Worker.objects.filter(pk__in=_rows, draining_since__isnull=False).exists()
    if drains and not draining.is_set():
        logger.info("This worker is being drained: it hands over what it does")
    (draining.set if drains else draining.clear)()


def refusal() -> str:
    """Why this worker begins nothing now; empty where it may.

    The database is asked: whoever ends the draining tells the workers at once that a run waits.
    """
    if not _rows:
        return ""
    look()
    if draining.is_set():
        return "It is being drained."
    reason = Release.objects.all().refusal(release.version())
    if not reason:
        reason = _out_of_place()[:REFUSAL_CHARACTERS]
        Worker.objects.filter(pk__in=_rows).exclude(refusal=reason).update(refusal=reason)
    return reason


def _out_of_place() -> str:
    """Why artefacts of this worker would not be where the studio has them; empty where they are."""
    try:
        return store.out_of_reach() or Release.objects.all().elsewhere(store.mark())
    except (store.StoreError, OSError) as error:
        return f"Its data folder or store cannot be read: {error}."


def gpus() -> list[Gpu]:
    """Those of this worker, as it last said itself."""
    told: list[list[Gpu]] = list(
        Worker.objects.filter(pk__in=_rows).exclude(gpus=[]).values_list("gpus", flat=True)
    )
    return told[0] if told else []


def another_could() -> bool:
    """Whether a run waits that an idle worker other than this one could begin."""
    held = Training.objects.filter(status="running").values_list("worker", flat=True)
    busy = set(held)
    waiting = Training.objects.claimable().in_order()[:_LOOKED_AT]
    trainers = Worker.objects.trainers()
    return any(
        other.pk not in _rows and other.name not in busy
        for _, needs in waiting.with_needs()
        for other in trainers.able(needs)
    )
