"""What a message sets off. Each carries an id; the row says what is to be done."""

from __future__ import annotations

import logging
import os
import socket

import dramatiq

from trainings import webhook, wishes
from workers import catalog, rehearsal, sae_jobs, supervisor
from workers.catalog import Label

from .broker import JOBS, SAES, TRAININGS, broker

logger = logging.getLogger(__name__)

broker()


def worker_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


@dramatiq.actor(queue_name=TRAININGS)
def run_training(pk: str) -> None:
    """Train the run that is next in the queue, whichever it is; `pk` says that one waits."""
    logger.debug("Told that %s waits", pk)
    begun = supervisor.run_next(worker_name())
    if begun:
        wishes.discard(begun)


@dramatiq.actor(queue_name=JOBS)
def prepare(label: Label, pk: str) -> None:
    """Make a model, a dataset or a tokenization ready."""
    catalog.prepare(label, pk, worker_name())


@dramatiq.actor(queue_name=JOBS)
def rehearse(pk: str) -> None:
    """Measure what a training will take."""
    rehearsal.run(pk, worker_name())


@dramatiq.actor(queue_name=SAES)
def run_sae_job(pk: str) -> None:
    """Evaluate an SAE, collect its features, or see what a text activates."""
    sae_jobs.run(pk, worker_name())


@dramatiq.actor(queue_name=JOBS)
def discard_training(pk: str) -> None:
    wishes.discard(pk)


@dramatiq.actor(queue_name=JOBS)
def tell_webhook() -> None:
    """One try; the sweeper asks for another."""
    webhook.tell()
