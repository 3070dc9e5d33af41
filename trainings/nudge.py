"""Tell the workers, after the commit, that there is something to do.

A nudge that cannot be sent is logged and not raised: the row is the truth, and the sweeper sends
again for every row that nobody picked up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from django.db import transaction
from dramatiq.errors import BrokerError
from redis.exceptions import RedisError

from workers import broker

if TYPE_CHECKING:
    from uuid import UUID

    from .models import Rehearsal, SaeJob, Training
    from .models.catalog import Prepared

logger = logging.getLogger(__name__)


def run(pk: UUID) -> None:
    """Have a worker train what is next in the queue; this one waits."""
    _after_commit(partial(broker.enqueue, broker.TRAININGS, "run_training", str(pk)))


def prepare(row: Prepared) -> None:
    """Fetch a model, read a dataset, or tokenize, whichever the row is."""
    label = row._meta.model_name or ""
    _after_commit(partial(broker.enqueue, broker.JOBS, "prepare", label, str(row.pk)))


def rehearse(rehearsal: Rehearsal) -> None:
    _after_commit(partial(broker.enqueue, broker.JOBS, "rehearse", str(rehearsal.pk)))


def sae_job(job: SaeJob) -> None:
    _after_commit(partial(broker.enqueue, broker.SAES, "run_sae_job", str(job.pk)))


def discard(training: Training) -> None:
    _after_commit(partial(broker.enqueue, broker.JOBS, "discard_training", str(training.pk)))


def tell() -> None:
    """Have the webhook told of what has ended."""
    _after_commit(partial(broker.enqueue, broker.JOBS, "tell_webhook"))


def _after_commit(send: Callable[[], None]) -> None:
    transaction.on_commit(partial(_try, send))


def _try(send: Callable[[], None]) -> None:
    try:
        send()
    except (RedisError, BrokerError, OSError) as error:
        logger.warning("The workers could not be told, the sweeper will: %s", error)
