"""What a training is, and its transitions: each one conditional UPDATE that says whether it won."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, Self

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now

from trainings import nudge
from workers.engine.config import ConfigError, Problem, TrainingConfig, check

from . import catalog
from .lease import Leased, LeasedQuerySet


class Status(models.TextChoices):
    PENDING = "pending", "Pending"
    RUNNING = "running", "Running"
    COMPLETED = "completed", "Completed"
    FAILED = "failed", "Failed"
    STOPPED = "stopped", "Stopped"


ENDED = (Status.COMPLETED, Status.FAILED, Status.STOPPED)
RESUMABLE = (Status.FAILED, Status.STOPPED)
# An attempt that was lost this often without a new checkpoint will not get through by repeating.
MAX_INTERRUPTIONS = 3


class TrainingQuerySet(LeasedQuerySet):
    def visible(self) -> Self:
        """What the user has not deleted; files of the rest are being removed."""
        return self.filter(delete_requested_at=None)

    def claimable(self) -> Self:
        """Pending, and all it reads is there."""
        return (
            super()
            .claimable()
            .filter(
                model__status=catalog.Status.READY,
                tokenization__status=catalog.Status.READY,
                delete_requested_at=None,
            )
        )

    def hopeless(self) -> Self:
        """Waiting for a model or a tokenization that failed."""
        failed = Q(model__status=catalog.Status.FAILED)
        failed |= Q(tokenization__status=catalog.Status.FAILED)
        return self.filter(failed, status=Status.PENDING)

    def queue(self) -> Self:
        """Pending runs in the order in which they start."""
        return self.visible().filter(status=Status.PENDING).order_by("queued_at", "id")

    def start(
        self,
        *,
        name: str,
        tokenization: catalog.Tokenization,
        config: TrainingConfig,
        pk: uuid.UUID | None = None,
    ) -> Training:
        """Insert a pending run and tell the workers; the same pk a second time changes nothing.

        Raises `ConfigError` for what cannot be trained on this model, naming each field.
        """
        facts = tokenization.model.facts
        if facts is None:
            raise ConfigError([Problem("model", f"{tokenization.model} is not ready yet.")])
        found = check(config, facts)
        if found:
            raise ConfigError(found)
        training, created = self.get_or_create(
            pk=pk or uuid.uuid4(),
            defaults={
                "name": name,
                "model": tokenization.model,
                "dataset": tokenization.dataset,
                "tokenization": tokenization,
                "layer": config.layer,
                "architecture": config.architecture.value,
                "hyperparameters": config.hyperparameters.model_dump(mode="json"),
            },
        )
        if created:
            nudge.run(training)
        return training

    def request_stop(self, pk: Any) -> bool:
        """A queued run is stopped at once; a running one is asked to save and end."""
        queued = self.filter(pk=pk, status=Status.PENDING)
        if queued.update(status=Status.STOPPED, completed_at=Now()):
            return True
        running = self.filter(pk=pk, status=Status.RUNNING, stop_requested_at=None)
        return bool(running.update(stop_requested_at=Now()))

    def restart(self, pk: Any, *, from_scratch: bool) -> bool:
        """Queue a failed or stopped run again, from its newest checkpoint or from step 0."""
        again = {"current_step": 0, "latest": {}, "event_seq": F("event_seq") + 1}
        return bool(
            self.visible()
            .filter(pk=pk, status__in=RESUMABLE)
            .update(
                status=Status.PENDING,
                from_scratch=from_scratch,
                queued_at=Now(),
                completed_at=None,
                stop_requested_at=None,
                error_message=None,
                interruptions=0,
                **(again if from_scratch else {}),
            )
        )

    def requeue_lost(self, pk: Any) -> bool:
        """A run whose worker vanished goes on from its newest checkpoint, a few times at most."""
        lost = self.lost().filter(pk=pk, interruptions__lt=MAX_INTERRUPTIONS)
        return bool(
            lost.update(
                status=Status.PENDING,
                lease_expires_at=None,
                from_scratch=False,
                queued_at=Now(),
                interruptions=F("interruptions") + 1,
            )
        )

    def give_up(self, pk: Any, reason: str) -> bool:
        """Fail a run that is lost too often, or that waits for something that cannot come."""
        stuck = self.filter(pk=pk).filter(
            Q(status=Status.PENDING) | Q(status=Status.RUNNING, lease_expires_at__lt=Now())
        )
        return bool(
            stuck.update(
                status=Status.FAILED,
                error_message=reason,
                lease_expires_at=None,
                completed_at=Now(),
            )
        )

    def request_delete(self, pk: Any) -> bool:
        """Hide the run and, if it is running, stop it; its files go once nothing writes them."""
        marked = self.visible().filter(pk=pk).update(delete_requested_at=Now())
        if marked:
            self.request_stop(pk)
        return bool(marked)

    def to_discard(self) -> Self:
        """Deleted by the user and no longer written to by anybody."""
        idle = ~Q(status=Status.RUNNING) | Q(lease_expires_at__lt=Now())
        return self.filter(idle, delete_requested_at__isnull=False)


class Training(Leased):
    """One SAE being trained: what was asked for, how far it is, and how it ended."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=255)
    model = models.ForeignKey(catalog.LanguageModel, models.PROTECT, related_name="trainings")
    dataset = models.ForeignKey(catalog.Dataset, models.PROTECT, related_name="trainings")
    tokenization = models.ForeignKey(catalog.Tokenization, models.PROTECT, related_name="trainings")
    layer = models.PositiveIntegerField()
    architecture = models.CharField(max_length=50)
    hyperparameters = models.JSONField()
    status = models.CharField(max_length=50, choices=Status.choices, default=Status.PENDING)
    current_step = models.PositiveIntegerField(default=0)
    final_loss = models.FloatField(null=True, blank=True)
    sae_path = models.CharField(max_length=500, null=True, blank=True)  # noqa: DJ001 (the API says null)
    error_message = models.TextField(null=True, blank=True)  # noqa: DJ001 (the API says null)
    created_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)

    queued_at = models.DateTimeField(db_default=Now())
    stop_requested_at = models.DateTimeField(null=True, blank=True)
    delete_requested_at = models.DateTimeField(null=True, blank=True)
    from_scratch = models.BooleanField(default=False)
    interruptions = models.PositiveIntegerField(default=0)
    event_seq = models.PositiveBigIntegerField(default=0)
    phase = models.CharField(max_length=50, blank=True, default="")
    latest = models.JSONField(default=dict, help_text="The newest progress event.")
    run_facts = models.JSONField(default=dict, help_text="What the engine said at the start.")
    run_warnings = models.JSONField(default=list)

    objects = TrainingQuerySet.as_manager()

    class Meta:
        db_table = "trainings"
        ordering = ("-created_at",)
        indexes = [models.Index(fields=("status", "queued_at"))]

    def __str__(self) -> str:
        return self.name

    @property
    def config(self) -> TrainingConfig:
        return TrainingConfig.model_validate(
            {
                "architecture": self.architecture,
                "layer": self.layer,
                "hyperparameters": self.hyperparameters,
            },
            context={"ranges": False},
        )

    @property
    def num_steps(self) -> int:
        return int(self.hyperparameters["num_steps"])

    @property
    def progress(self) -> float:
        """Share of the steps done, 0 to 1."""
        return min(1.0, self.current_step / self.num_steps)

    @property
    def folder(self) -> Path:
        return Path(settings.HOME, "trainings", str(self.id))

    def attempt_folder(self, attempt: int) -> Path:
        return self.folder / f"attempt-{attempt}"

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    @property
    def can_stop(self) -> bool:
        return self.status in (Status.PENDING, Status.RUNNING) and not self.stop_requested_at

    @property
    def can_restart(self) -> bool:
        return self.status in RESUMABLE

    @property
    def shown_status(self) -> str:
        """The stored status, or what is meant by it now: stopping, interrupted, preparing."""
        if self.status == Status.RUNNING and self.stop_requested_at:
            return "stopping"
        if self.status == Status.PENDING and self.interruptions:
            return "interrupted"
        return self.status

    def claim_values(self) -> dict[str, Any]:
        return {"started_at": Coalesce(F("started_at"), Now()), "phase": "starting"}
