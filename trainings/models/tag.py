"""Words that users give trainings, to find them again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.db import models, transaction

if TYPE_CHECKING:
    from .training import Training

MAX_LENGTH = 50
MAX_TAGS = 20


def unwritable(text: str) -> str:
    """Why no database or file takes this text; empty where they do."""
    if "\x00" in text:
        return "It must not hold null characters."
    try:
        text.encode()
    except UnicodeEncodeError:
        return "It holds half a character (a lone surrogate)."
    return ""


class TagQuerySet(models.QuerySet["Tag"]):
    def used(self) -> TagQuerySet:
        """Those of trainings that are shown."""
        return self.filter(trainings__delete_requested_at=None, trainings__isnull=False).distinct()

    def give(self, training: Training, names: Iterable[str]) -> None:
        """The training has these tags and no others."""
        wanted = [tidy(name) for name in names]
        with transaction.atomic():
            self.bulk_create([Tag(name=name) for name in set(wanted)], ignore_conflicts=True)
            training.tags.set(self.filter(name__in=wanted))


class Tag(models.Model):
    """In small letters, so that each is there once."""

    name = models.CharField(max_length=MAX_LENGTH, unique=True)

    objects = TagQuerySet.as_manager()

    class Meta:
        db_table = "tags"
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


def tidy(name: str) -> str:
    """One way of writing it: small letters, single spaces, no null characters."""
    return " ".join(name.replace("\x00", "").casefold().split())


def split(text: str) -> list[str]:
    """The tags of a text that has commas between them, each once, in their order."""
    return list(dict.fromkeys(name for part in text.split(",") if (name := tidy(part))))


def problem(names: Iterable[str]) -> str:
    """What is wrong with these tags; empty where nothing is."""
    found = list(names)
    if len(found) > MAX_TAGS:
        return f"At most {MAX_TAGS} tags; these are {len(found)}."
    long = next((name for name in found if len(name) > MAX_LENGTH), None)
    return f"A tag has at most {MAX_LENGTH} characters: {long}" if long else ""
