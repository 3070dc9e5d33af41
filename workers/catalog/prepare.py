"""Take one row of the catalog from pending to ready, or to failed with the reason."""

from __future__ import annotations

import errno
import logging
import shutil
import time
from collections.abc import Callable
from typing import Any, Final, Literal

from django.db import close_old_connections
from django.db.models import Q
from django.db.models.functions import Now

from trainings import nudge, store
from trainings.models import Dataset, LanguageModel, Tokenization, Training
from trainings.models.catalog import Prepared, Status, TokenizationQuerySet
from trainings.store import Away, StoreError
from workers.engine.model import ModelError
from workers.hub import HubError
from workers.packages import PackageError
from workers.texts import TextError

from . import dataset, language_model, tokenization
from .job import Job, LeaseLost, PrepareError

logger = logging.getLogger(__name__)
# Seconds for which a store that is away is waited for, and between two tries.
PATIENCE, PAUSE = 600.0, 10.0

Label = Literal["languagemodel", "dataset", "tokenization"]
Facts = dict[str, Any]

_ROWS: Final[dict[str, type[Prepared]]] = {
    "languagemodel": LanguageModel,
    "dataset": Dataset,
    "tokenization": Tokenization,
}
_WORK: Final[dict[str, Callable[[Any, Job], Facts]]] = {
    "languagemodel": language_model.prepare,
    "dataset": dataset.prepare,
    "tokenization": tokenization.prepare,
}


def prepare(
    label: Label,
    pk: str,
    worker: str,
    on_progress: Callable[[float, str], None] = lambda share, note: None,
) -> bool:
    """Claim a pending row and see it through. False if there was nothing to claim, or it was lost.

    `on_progress` gets every report: share from 0 to 1, and a note.
    """
    rows = _ROWS[label].objects
    attempt = rows.claim(pk, worker, progress=0.0, progress_note="", error_message="")
    if attempt is None:
        return False
    row = rows.get(pk=pk)
    try:
        facts = _work(label, Job(row, attempt, on_progress))
    except LeaseLost:
        logger.warning("%s %s was taken over or deleted", label, pk)
        if not rows.filter(pk=pk).exists():
            shutil.rmtree(row.kept_folder, ignore_errors=True)  # nobody goes on from it
        return False
    except PrepareError as error:
        return _fail(row, attempt, str(error))
    except Exception as error:
        _fail(row, attempt, f"Something unexpected happened ({error!r}); the worker's log has it.")
        raise
    except BaseException:
        # This process is told to end: another one may start anew at once.
        rows.end(pk, attempt, Status.PENDING, progress=0.0, progress_note="")
        raise
    return _finish(row, attempt, facts)


def _work(label: str, job: Job) -> Facts:
    """Do the work; every refusal that a researcher can act on becomes a `PrepareError`."""
    try:
        with job:
            facts = _WORK[label](job.row, job)
            job.publish()
            if store.on() and job.row.folder.exists():
                _put(job)
            return facts
    except (HubError, ModelError, PackageError, TextError, tokenization.TokenizeError) as error:
        raise PrepareError(str(error)) from error
    except StoreError as error:
        raise PrepareError(str(error)) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise PrepareError("The disk of SAESTUDIO_HOME is full: free some of it.") from error
        logger.warning("%s %s", job.row.kind, job.row, exc_info=True)
        raise PrepareError(f"A file cannot be read or written: {error}.") from error


def _put(job: Job) -> None:
    """Into the store; what took days is not thrown away because that is away for a moment.

    Raises `StoreError` where it stays away for longer than `PATIENCE`, or refuses it.
    """
    until = time.monotonic() + PATIENCE
    job.report(0.99, "Putting it into the store")
    while True:
        try:
            store.put(job.row.folder, job.go_on)
            return
        except Away as error:
            if time.monotonic() > until:
                raise
            logger.warning("%s waits for the store: %s", job.row, error)
            job.report(0.99, "Waiting for the store, which cannot be reached")
            store.rest(PAUSE, job.go_on)


def _finish(row: Prepared, attempt: int, facts: Facts) -> bool:
    close_old_connections()
    done = {"progress": 1.0, "progress_note": "", "ready_at": Now(), **facts}
    rows = type(row).objects
    if not rows.end(row.pk, attempt, Status.READY, **done):
        if row.folder.exists() and not rows.filter(pk=row.pk).exists():
            shutil.rmtree(row.folder)
            store.discard_later(row.folder)
        return False
    logger.info("The %s %s is ready", row.kind, row)
    for waiting in _tokenizations_of(row).claimable():
        nudge.prepare(waiting)
    for training in Training.objects.claimable().filter(_reads(row)).in_order():
        nudge.run(training.pk)
    return True


def _fail(row: Prepared, attempt: int, message: str) -> bool:
    """End the row as failed, and with it what waits for nothing else."""
    close_old_connections()
    if not type(row).objects.end(row.pk, attempt, Status.FAILED, error_message=message):
        return False
    logger.warning("The %s %s failed: %s", row.kind, row, message)
    reason = f"The {row.kind} {row} could not be prepared: {message}"
    _tokenizations_of(row).hopeless().update(status=Status.FAILED, error_message=reason)
    for training in Training.objects.hopeless().filter(_reads(row)):
        Training.objects.give_up_waiting(training.pk, reason)
    return True


def _tokenizations_of(row: Prepared) -> TokenizationQuerySet:
    """Those that wait for this row; none wait for a tokenization."""
    found: TokenizationQuerySet = Tokenization.objects.all()
    return found.none() if isinstance(row, Tokenization) else found.filter(_reads(row))


def _reads(row: Prepared) -> Q:
    """What a tokenization or a training names the row it reads."""
    if isinstance(row, LanguageModel):
        return Q(model=row)
    return Q(dataset=row) if isinstance(row, Dataset) else Q(tokenization=row)
