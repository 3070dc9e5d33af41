"""Rows of the catalog as people name them on a command line: by name, by place, or by id."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from django.core.management.base import CommandError
from django.db.models import Q

from trainings import store
from trainings.models import Sae, Training
from trainings.models.catalog import Dataset, LanguageModel, Prepared, Status, Tokenization
from trainings.store import Absent, StoreError

MOST_NAMES = 10
LEAST_PREFIX = 4
Named = TypeVar("Named", LanguageModel, Dataset)


def named(rows: type[Named], text: str) -> Named:
    """The one row with this id, name or location; a ready one first. Raises `CommandError`."""
    found: list[Named] = list(rows.objects.filter(by_id(text) or Q(name=text) | Q(location=text)))
    usable = [row for row in found if row.status == Status.READY]
    if len(found) == 1 or len(usable) == 1:
        return (usable or found)[0]
    kind = rows._meta.verbose_name
    if found:
        ids = ", ".join(str(row.pk) for row in found)
        raise CommandError(
            f"More than one {kind} is called {text!r}; name an id: {ids}.", returncode=2
        )
    raise CommandError(f"There is no {kind} {text!r}. {_nearest(rows, text)}", returncode=2)


def training(text: str) -> Training:
    """The one that is shown with this id, the beginning of it, or this name.

    Raises `CommandError`.
    """
    rows = Training.objects.visible()
    found = list(rows.filter(by_id(text) or Q(name=text))[:2])
    if not found and len(text) >= LEAST_PREFIX:
        found = [run for run in rows.only("pk", "name") if str(run.pk).startswith(text)][:2]
    if len(found) > 1:
        raise CommandError(f"{text!r} is more than one training; write its id.", returncode=2)
    if not found:
        nearest = _nearest_of(rows.values_list("name", flat=True), text)
        raise CommandError(f"There is no training {text!r}. {nearest}", returncode=2)
    run: Training = found[0]
    return run


def sae(text: str) -> Sae:
    """That of the training so named, the imported one so named, or the one with this id.

    Raises `CommandError`.
    """
    rows = Sae.objects.visible().filter(ready=True)
    found: Sae | None = rows.filter(by_id(text) or Q(training=None, own_name=text)).first()
    if found is None:
        run = training(text)
        found = Sae.objects.visible().filter(training=run).first()
        if found:
            fetched(found.folder)
        if found is None or not found.folder.is_dir():
            raise CommandError(f"{run.name} has no SAE; it is {run.shown_status}.", returncode=2)
    fetched(found.folder)
    return found


def fetched(path: Path, *, newest: bool = False) -> None:
    """Have an artefact on this host, if there is one. Raises `CommandError`."""
    try:
        store.fetch(path, newest=newest)
    except Absent:
        return
    except (StoreError, OSError) as error:
        raise CommandError(f"It cannot be fetched: {error}") from error


def ready(row: Prepared) -> None:
    """Raises `CommandError` unless the row can be read."""
    if row.status == Status.READY:
        return
    why = f": {row.error_message}" if row.error_message else "."
    raise CommandError(f"The {row.kind} {row} is not ready, it is {row.status}{why}", returncode=2)


def tokenization(text: str) -> Tokenization:
    """The tokenization with this id. Raises `CommandError`."""
    found_by = by_id(text)
    rows = Tokenization.objects.select_related("model", "dataset")
    found: Tokenization | None = rows.filter(found_by).first() if found_by else None
    if found is None:
        raise CommandError(f"There is no tokenization with the id {text!r}.", returncode=2)
    return found


def text_of(sae: Sae, asked: str | None) -> Tokenization:
    """An SAE's own text, or another one of its model. Raises `CommandError`."""
    if not asked:
        return sae.text
    found = tokenization(asked)
    ready(found)
    if found.model != sae.language_model:
        raise CommandError(
            f"{found} was tokenized for {found.model}; the SAE is {sae.language_model}'s.",
            returncode=2,
        )
    return found


def by_id(text: str) -> Q | None:
    """The row of this id; None where the text is none."""
    try:
        return Q(pk=uuid.UUID(text))
    except ValueError:
        return None


def _nearest(rows: type[Any], text: str) -> str:
    return _nearest_of(rows.objects.values_list("name", flat=True), text)


def _nearest_of(known: Iterable[str], text: str) -> str:
    names = list(dict.fromkeys(known))
    near = get_close_matches(text, names, n=1)
    if near:
        return f"Did you mean {near[0]!r}?"
    some = ", ".join(names[:MOST_NAMES]) + (" ..." if len(names) > MOST_NAMES else "")
    return f"There are: {some}." if names else "None is registered yet."
