"""What a message sets off. Each carries an id; the row says what is to be done."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

import dramatiq

from trainings import webhook, wishes
from workers import catalog, fleet, rehearsal, sae_jobs, supervisor
from workers.catalog import Label

from .broker import JOBS, SAES, TRAININGS, broker

logger = logging.getLogger(__name__)

broker()


# In milliseconds: another worker has taken it by then, or gets it now.
_PASSED_ON_AFTER = 500


def _unless_refused(actor: Callable[..., None]) -> Callable[..., None]:
    """A worker that may begin nothing leaves the row to others; the sweeper tells them."""

    @functools.wraps(actor)
    def guarded(*args: str) -> None:
        if reason := fleet.refusal():
            logger.warning("%s is not done here. %s", actor.__name__, reason)
            return
        actor(*args)

    return guarded


@dramatiq.actor(queue_name=TRAININGS)
def run_training(pk: str) -> None:
    """Train what waits, in its order, as long as this worker can; `pk` says that one waits.

    Where it cannot, and another worker could that has nothing to do, that one is told.
    """
    logger.debug("Told that %s waits", pk)
    while begun := supervisor.run_next(fleet.name()):
        for done in begun:
            wishes.discard(done)
        if fleet.leaving():
            break
    if not fleet.shutting_down.is_set() and fleet.another_could():
        run_training.send_with_options(args=(pk,), delay=_PASSED_ON_AFTER)


@dramatiq.actor(queue_name=JOBS)
@_unless_refused
def prepare(label: Label, pk: str) -> None:
    """Make a model, a dataset or a tokenization ready."""
    catalog.prepare(label, pk, fleet.name())


@dramatiq.actor(queue_name=JOBS)
@_unless_refused
def rehearse(pk: str) -> None:
    """Measure what a training will take."""
    rehearsal.run(pk, fleet.name())


@dramatiq.actor(queue_name=SAES)
@_unless_refused
def run_sae_job(pk: str) -> None:
    """Evaluate an SAE, collect its features, or see what a text activates."""
    sae_jobs.run(pk, fleet.name())


@dramatiq.actor(queue_name=JOBS)
def discard_training(pk: str) -> None:
    wishes.discard(pk)


@dramatiq.actor(queue_name=JOBS)
def tell_webhook() -> None:
    """One try; the sweeper asks for another."""
    webhook.tell()
