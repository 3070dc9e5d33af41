"""What a training will take, measured before it starts; remembered per configuration."""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import timedelta
from typing import Any, Self

from django.db import models
from django.db.models import F
from django.db.models.functions import Now

from trainings import nudge
from workers.engine.config import TrainingConfig, places, settled_layers

from . import catalog
from .lease import Leased, LeasedQuerySet, ago

# A measurement that took its worker along twice will not get through by repeating.
MAX_INTERRUPTIONS = 2
# Nobody waits longer for half a minute's work; and a worker that comes back later has other work.
LONGEST_WAIT = timedelta(hours=1)
# By then the machine, or what else runs on it, is likely to be another.
KEEP = timedelta(days=30)


class Status(models.TextChoices):
    PENDING = "pending", "Pending"
    RUNNING = "running", "Measuring"
    DONE = "done", "Measured"
    FAILED = "failed", "Failed"


ENDED = (Status.DONE, Status.FAILED)


class RehearsalQuerySet(LeasedQuerySet):
    def of(self, tokenization: catalog.Tokenization, config: TrainingConfig) -> Rehearsal | None:
        found: Rehearsal | None = self.filter(digest=digest(tokenization, config)).first()
        return found

    def ask(
        self, tokenization: catalog.Tokenization, config: TrainingConfig, seen: int = 0
    ) -> Rehearsal:
        """The configuration's row, measured or about to be.

        `seen` is the attempt whose outcome was on the page: only that one is measured again, so
        that asking twice measures once.
        """
        rehearsal: Rehearsal
        rehearsal, created = self.get_or_create(
            digest=digest(tokenization, config),
            defaults={
                "tokenization": tokenization,
                "configuration": config.model_dump(mode="json"),
            },
        )
        if created or self._again(rehearsal.pk, seen):
            rehearsal.refresh_from_db()
            nudge.rehearse(rehearsal)
        return rehearsal

    def finish(self, pk: Any, attempt: int, figures: dict[str, Any], *, beside: bool) -> bool:
        """Keep what was measured; `beside` says whether a training ran at the same time."""
        return self.end(
            pk, attempt, Status.DONE, figures=figures, beside_training=beside, ended_at=Now()
        )

    def fail(self, pk: Any, attempt: int, message: str) -> bool:
        return self.end(pk, attempt, Status.FAILED, error_message=message, ended_at=Now())

    def hand_back(self, pk: Any, attempt: int) -> bool:
        """A worker that ends in good order leaves the measurement to the next one."""
        return self.end(pk, attempt, Status.PENDING)

    def requeue_lost(self, pk: Any) -> bool:
        """A measurement whose worker vanished starts anew, a few times at most."""
        lost = self.lost().filter(pk=pk, interruptions__lt=MAX_INTERRUPTIONS)
        return bool(
            lost.update(
                status=Status.PENDING,
                lease_expires_at=None,
                interruptions=F("interruptions") + 1,
            )
        )

    def give_up(self, pk: Any, reason: str) -> bool:
        """Fail what was lost too often, or what nobody took."""
        stuck = (self.forgotten() | self.lost()).filter(pk=pk)
        return bool(
            stuck.update(
                status=Status.FAILED,
                error_message=reason,
                lease_expires_at=None,
                ended_at=Now(),
            )
        )

    def forgotten(self) -> Self:
        """Asked for so long ago that whoever asked is gone."""
        return self.filter(status=Status.PENDING, asked_at__lt=ago(LONGEST_WAIT))

    def prune(self) -> int:
        """Forget outcomes that say little any more. Returns how many."""
        return self.filter(status__in=ENDED, ended_at__lt=ago(KEEP)).delete()[0]

    def _again(self, pk: Any, seen: int) -> bool:
        ended = self.filter(pk=pk, status__in=ENDED, attempt=seen)
        return bool(
            ended.update(
                status=Status.PENDING,
                asked_at=Now(),
                ended_at=None,
                interruptions=0,
                error_message="",
                figures={},
            )
        )


class Rehearsal(Leased):
    """A few steps of one configuration, measured by a job; one row for each configuration."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    digest = models.CharField(max_length=64, unique=True)
    tokenization = models.ForeignKey(catalog.Tokenization, models.CASCADE, related_name="+")
    configuration = models.JSONField()
    status = models.CharField(max_length=50, choices=Status.choices, default=Status.PENDING)
    interruptions = models.PositiveIntegerField(default=0)
    error_message = models.TextField(blank=True, default="")
    figures = models.JSONField(default=dict, help_text="What the engine measured.")
    beside_training = models.BooleanField(
        default=False, help_text="Whether a training ran while this was measured."
    )
    asked_at = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = RehearsalQuerySet.as_manager()

    class Meta:
        db_table = "rehearsals"
        ordering = ("-asked_at",)

    def __str__(self) -> str:
        where = places(settled_layers(self.config))
        return f"{self.config.architecture.label}, {where}, {self.tokenization}"

    @property
    def config(self) -> TrainingConfig:
        return TrainingConfig.model_validate(self.configuration, context={"ranges": False})

    @property
    def ahead(self) -> int:
        """How many jobs the workers take before this one."""
        if self.status != Status.PENDING:
            return 0
        others = Rehearsal.objects.exclude(pk=self.pk)
        found = others.filter(status=Status.RUNNING).count()
        found += others.filter(status=Status.PENDING, asked_at__lt=self.asked_at).count()
        for rows in (catalog.LanguageModel, catalog.Dataset, catalog.Tokenization):
            found += rows.objects.filter(status=catalog.Status.RUNNING).count()
            found += rows.objects.claimable().filter(created_at__lt=self.asked_at).count()
        return found


def digest(tokenization: catalog.Tokenization, config: TrainingConfig) -> str:
    """SHA-256 over all that decides what a training takes, but for the machine."""
    model = tokenization.model
    facts = {
        "config": config.digest(),
        "model": [str(model.pk), str(model.ready_at), model.d_model, model.n_layers],
        "tokens": [str(tokenization.pk), str(tokenization.ready_at), tokenization.n_tokens],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
