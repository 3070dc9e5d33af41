"""What users wish of models, datasets and tokenizations, on the page and over the API."""

from __future__ import annotations

import logging
import shutil
from functools import partial
from typing import Any

from django.db import IntegrityError, transaction
from django.forms import ModelForm

from . import nudge, store
from .models.catalog import Prepared, Status

logger = logging.getLogger(__name__)


def register(form: ModelForm[Any], owner: Any) -> Prepared | None:
    """The row of a form that is valid, for a job to prepare.

    None, and the form says so, where another request has just made the same.
    """
    form.instance.owner = owner
    try:
        with transaction.atomic():
            row: Prepared = form.save()
    except IntegrityError:
        form.add_error(None, "This is registered already.")
        return None
    nudge.prepare(row)
    return row


def _remove_files(row: Prepared) -> None:
    """The row is gone; what stays of its files is said in the log, and `prune` finds it."""
    for folder in (row.folder, row.kept_folder):
        shutil.rmtree(folder, onerror=_log_left)
    store.discard_later(row.folder)


def _log_left(_function: object, path: str, error: Any) -> None:
    if not isinstance(error[1], FileNotFoundError):
        logger.warning("%s was not deleted: %s", path, error[1])


def prepare_again(row: Prepared) -> bool:
    """A failed preparation is tried once more. False where it did not fail."""
    done = bool(type(row).objects.retry(row.pk))
    if done:
        nudge.prepare(row)
    return done


def remove(row: Prepared) -> str:
    """Delete the row and, after the commit, its files; why that is not done, else empty."""
    rows = type(row).objects
    try:
        with transaction.atomic():
            # Held until it is gone: a job may want to claim it at this moment.
            idle = rows.select_for_update().filter(pk=row.pk).exclude(status=Status.RUNNING)
            deleted = bool(idle.values_list("pk")) and bool(rows.filter(pk=row.pk).delete()[0])
            if deleted:
                transaction.on_commit(partial(_remove_files, row))
    except IntegrityError:  # used since before, or since a moment ago
        return f"{row} is in use and was not deleted."
    return "" if deleted else f"{row} is being prepared; wait until it ends."
