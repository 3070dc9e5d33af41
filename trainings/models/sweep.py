"""Trainings that differ in a few settings and share one stream of activations."""

from __future__ import annotations

import uuid
from typing import Any, Self

from django.db import models
from django.db.models.functions import Now

from .owner import owned


class SweepQuerySet(models.QuerySet[Any]):
    def visible(self) -> Self:
        """Those with a training that the user has not deleted."""
        shown = {"trainings__isnull": False, "trainings__delete_requested_at": None}
        return self.filter(**shown).distinct()

    def held(self, pk: uuid.UUID) -> bool:
        """Keep the row until the transaction ends; False where it is gone.

        Whoever claims its members or adds to them does that alone.
        """
        return self.select_for_update().filter(pk=pk).first() is not None

    def discard_empty(self, pk: uuid.UUID | None) -> None:
        """Remove it once no training is left of it."""
        self.filter(pk=pk, trainings=None).delete()


class Sweep(models.Model):
    """A group of trainings. Each is a training like any other; the row only holds them together."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=255)
    asked = models.JSONField(help_text="The common settings, the grid and the list it was made of.")
    created_at = models.DateTimeField(db_default=Now())
    owner = owned()

    objects = SweepQuerySet.as_manager()

    class Meta:
        db_table = "sweeps"
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return self.name
