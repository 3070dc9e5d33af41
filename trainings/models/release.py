"""What this database belongs to, as `migrate` wrote it last: the version of the studio, and the
place of its artefacts."""

from __future__ import annotations

import logging
from typing import Any

from django.db import models
from django.db.models.functions import Now

from trainings import store
from workers import release

logger = logging.getLogger(__name__)


class ReleaseQuerySet(models.QuerySet["Release"]):
    def refusal(self, version: str) -> str:
        """Why a process of this version should not work here; empty where it may."""
        current = self.current()
        return Release.why_not(version, current) if current else ""

    def elsewhere(self, mark: str) -> str:
        """Why a process whose artefacts lie in a place of this mark should not work here; empty
        where it may."""
        place = self.values_list("place", flat=True).first()
        return "" if place in (None, "", mark) else _ELSEWHERE

    def current(self) -> str | None:
        """None where no `migrate` has said it yet."""
        return self.values_list("version", flat=True).first()


class Release(models.Model):
    """One row."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    version = models.CharField(max_length=100)
    place = models.CharField(
        max_length=100, default="", db_default="", help_text="The mark of its data folder or store."
    )
    since = models.DateTimeField(db_default=Now())

    objects = ReleaseQuerySet.as_manager()

    class Meta:
        db_table = "release"

    def __str__(self) -> str:
        return self.version

    @staticmethod
    def why_not(version: str, current: str) -> str:
        """Why a process of one version begins nothing for a studio of another."""
        if version == current:
            return ""
        return f"It runs SAE Studio {version}, and the studio is {current}: bring both to one."


_ELSEWHERE = (
    "Its data folder or store is not the studio's: mount the folder that the others have, or give "
    "it their SAESTUDIO_STORE. Where the studio itself has moved, run manage.py migrate."
)


def keep(using: str, **_: Any) -> None:
    """After every `migrate`: from now on the database is of this version, and of this place."""
    rows, now = Release.objects.using(using), {"version": release.version()}
    try:
        now["place"] = store.mark(make=True)
    except (store.StoreError, OSError) as error:
        logger.warning("Where artefacts lie could not be marked, so no worker compares: %s", error)
        now["place"] = ""
    if not rows.filter(pk=1, **now).exists():
        rows.update_or_create(pk=1, defaults={**now, "since": Now()})
