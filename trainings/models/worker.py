"""The processes that work: each says now and then that it lives, by the database's clock."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Self

from django.db import models
from django.db.models.functions import Now

from workers.gpus import Gpu

# A worker that has not been seen for so long is taken for gone; for so long, it is forgotten.
GONE_AFTER = timedelta(seconds=60)
FORGOTTEN_AFTER = timedelta(days=1)


class WorkerQuerySet(models.QuerySet["Worker"]):
    def alive(self) -> Self:
        return self.filter(seen_at__gt=Now() - GONE_AFTER)

    def missing(self) -> list[str]:
        """Kinds of which none is alive."""
        there = set(self.alive().values_list("kind", flat=True))
        return [kind for kind in Worker.Kind.values if kind not in there]

    def seen(self, pk: uuid.UUID, gpus: Sequence[Gpu] = (), **facts: Any) -> None:
        """It lives; what else it says of itself is kept at the first time."""
        if not self.filter(pk=pk).update(seen_at=Now(), gpus=list(gpus)):
            self.create(pk=pk, gpus=list(gpus), **facts)

    def forget(self) -> int:
        """Returns how many had not been seen for a day."""
        return self.filter(seen_at__lt=Now() - FORGOTTEN_AFTER).delete()[0]


class Worker(models.Model):
    """One process; a new one is a new row."""

    class Kind(models.TextChoices):
        TRAINER = "trainer", "Trains"
        JOBS = "jobs", "Does short jobs"
        SAES = "saes", "Evaluates, explains and exports SAEs"
        SWEEPER = "sweeper", "Finds lost work"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=20, choices=Kind.choices)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    started_at = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField(db_default=Now())
    # As `workers.gpus.memory` tells of those it may use.
    gpus = models.JSONField(db_default=models.Value([], output_field=models.JSONField()))

    objects = WorkerQuerySet.as_manager()

    class Meta:
        db_table = "workers"
        ordering = ("host", "kind", "started_at")

    def __str__(self) -> str:
        return f"{self.kind} on {self.host} ({self.pid})"
