"""The processes that work: each says now and then that it lives, by the database's clock."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

from django.db import models
from django.db.models.functions import Now

from trainings.needs import Needs

from .release import Release

# A worker that has not been seen for so long is taken for gone; for so long, it is forgotten.
GONE_AFTER = timedelta(seconds=60)
FORGOTTEN_AFTER = timedelta(days=1)
REFUSAL_CHARACTERS = 500


@dataclass(frozen=True)
class Trainers:
    """Those that are seen now, and of them those that begin something once they are idle."""

    seen: list[Worker]
    taking: list[Worker]

    def able(self, needs: Needs) -> list[Worker]:
        """Those that could run such a training, busy or not."""
        return [trainer for trainer in self.taking if needs.met_by(trainer.gpus)]


class WorkerQuerySet(models.QuerySet["Worker"]):
    def alive(self) -> Self:
        return self.filter(seen_at__gt=Now() - GONE_AFTER)

    def missing(self) -> list[str]:
        """Kinds of which none is alive."""
        there = set(self.alive().values_list("kind", flat=True))
        return [kind for kind in Worker.Kind.values if kind not in there]

    def seen(self, pk: uuid.UUID, now: dict[str, Any], **facts: Any) -> None:
        """It lives, and `now` is true of it; `facts` are kept at the first time.

        One that begins in the place of a draining one drains, too: the host is still to be left.
        """
        if self.filter(pk=pk).update(seen_at=Now(), **now):
            return
        place = {name: facts[name] for name in ("host", "kind", "slot")}
        before = self.filter(**place).order_by("-seen_at").first()
        self.create(pk=pk, draining_since=before.draining_since if before else None, **now, **facts)

    def drain(self, pks: Iterable[uuid.UUID]) -> int:
        """Have them hand over what they do and take nothing more; how many did not drain yet."""
        return self.filter(pk__in=pks, draining_since=None).update(draining_since=Now())

    def end_draining(self, pks: Iterable[uuid.UUID]) -> int:
        """Have them take work again; how many drained."""
        return self.filter(pk__in=pks, draining_since__isnull=False).update(draining_since=None)

    def trainers(self) -> Trainers:
        seen = list(self.alive().filter(kind=Worker.Kind.TRAINER))
        version = Release.objects.all().current()
        mine = [trainer for trainer in seen if version in (None, trainer.version)]
        able = [each for each in mine if not each.draining_since and not each.refusal]
        return Trainers(seen, able)

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
    slot = models.CharField(
        max_length=100, default="", db_default="", help_text="Its name among those of its host."
    )
    version = models.CharField(max_length=100, default="", db_default="")
    cores = models.PositiveIntegerField(default=0, db_default=0)
    memory_total = models.PositiveBigIntegerField(default=0, db_default=0, help_text="Bytes.")
    memory_available = models.PositiveBigIntegerField(default=0, db_default=0, help_text="Bytes.")
    started_at = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField(db_default=Now())
    draining_since = models.DateTimeField(null=True, blank=True)
    refusal = models.CharField(
        max_length=REFUSAL_CHARACTERS,
        default="",
        db_default="",
        help_text="Why it began nothing when it last could.",
    )
    # As `workers.gpus.memory` tells of those it may use.
    gpus = models.JSONField(
        default=list, db_default=models.Value([], output_field=models.JSONField())
    )

    objects = WorkerQuerySet.as_manager()

    class Meta:
        db_table = "workers"
        ordering = ("host", "kind", "started_at")

    def __str__(self) -> str:
        return f"{self.kind} on {self.host} ({self.pid})"

    @property
    def name(self) -> str:
        """As the rows it holds call it."""
        return f"{self.host}:{self.pid}"
