"""The version of the studio that this database belongs to, as `migrate` wrote it last."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models.functions import Now

from workers import release


class ReleaseQuerySet(models.QuerySet["Release"]):
    def refusal(self, version: str) -> str:
        """Why a process of this version should not work here; empty where it may."""
        current = self.current()
        return Release.why_not(version, current) if current else ""

    def current(self) -> str | None:
        """None where no `migrate` has said it yet."""
        return self.values_list("version", flat=True).first()


class Release(models.Model):
    """One row."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    version = models.CharField(max_length=100)
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


def keep(using: str, **_: Any) -> None:
    """After every `migrate`: from now on the database is of this version."""
    rows = Release.objects.using(using)
    if not rows.filter(pk=1, version=release.version()).exists():
        rows.update_or_create(pk=1, defaults={"version": release.version(), "since": Now()})
