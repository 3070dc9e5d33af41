"""What users wish of models, datasets and tokenizations, on the page and over the API."""

from __future__ import annotations

import shutil
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models.deletion import ProtectedError
from django.forms import ModelForm

from . import nudge
from .models.catalog import Prepared, Status


def register(form: ModelForm[Any], owner: Any) -> Prepared:
    """The row of a form that is valid, for a job to prepare."""
    form.instance.owner = owner
    row: Prepared = form.save()
    nudge.prepare(row)
    return row


def prepare_again(row: Prepared) -> bool:
    """A failed preparation is tried once more. False where it did not fail."""
    done = bool(type(row).objects.retry(row.pk))
    if done:
        nudge.prepare(row)
    return done


def remove(row: Prepared) -> str:
    """Delete the row and, after the commit, its files; why that is not done, else empty."""
    try:
        with transaction.atomic():
            # The condition is part of the statement: a job may claim the row at this moment.
            idle = type(row).objects.filter(pk=row.pk).exclude(status=Status.RUNNING)
            deleted, _ = idle.delete()
            if deleted and row.folder.exists():
                transaction.on_commit(partial(shutil.rmtree, row.folder))
    except ProtectedError:
        return f"{row} is in use and was not deleted."
    return "" if deleted else f"{row} is being prepared; wait until it ends."
