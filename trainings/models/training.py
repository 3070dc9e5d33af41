"""What a training is: what was asked for, how far it is, and how it ended."""

from __future__ import annotations

import uuid
from pathlib import Path

from django.conf import settings
from django.db import models
from django.db.models import Value
from django.db.models.functions import Now
from django.utils.text import slugify

from trainings.needs import Needs
from workers.engine.config import Architecture, StartSpec, TrainingConfig, places, settled_layers

from . import catalog
from .lease import Leased
from .owner import owned
from .sweep import Sweep
from .tag import Tag
from .transitions import ENDED, RESUMABLE, Priority, Status, TrainingQuerySet

MAX_NOTES = 20_000


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
    priority = models.IntegerField(
        default=Priority.NORMAL,
        db_default=Priority.NORMAL,
        help_text="Of those that wait, the highest starts first.",
    )
    stop_requested_at = models.DateTimeField(null=True, blank=True)
    delete_requested_at = models.DateTimeField(null=True, blank=True)
    fresh_since_attempt = models.PositiveIntegerField(
        default=1, help_text="Checkpoints of earlier attempts belong to a run begun before."
    )
    interruptions = models.PositiveIntegerField(default=0)
    event_seq = models.PositiveBigIntegerField(default=0)
    phase = models.CharField(max_length=50, blank=True, default="")
    latest = models.JSONField(default=dict, help_text="The newest progress event.")
    run_facts = models.JSONField(default=dict, help_text="What the engine said at the start.")
    run_warnings = models.JSONField(default=list)

    marks = models.JSONField(
        default=list,
        db_default=Value([], models.JSONField()),
        help_text="Steps at which it was resumed or latents were resampled.",
    )
    started_from = models.ForeignKey(
        "trainings.Sae", models.SET_NULL, null=True, blank=True, related_name="continued"
    )
    origin = models.JSONField(
        default=dict,
        db_default=Value({}, models.JSONField()),
        help_text="Of the SAE it starts from, also when that one is gone.",
    )
    told_at = models.DateTimeField(
        null=True, blank=True, help_text="When the webhook took its last end."
    )
    notes = models.TextField(blank=True, default="", db_default="")
    needs = models.JSONField(
        default=dict,
        db_default=Value({}, models.JSONField()),
        help_text="Of the worker that runs it; `trainings.needs` says what it may be.",
    )
    owner = owned()
    sweep = models.ForeignKey(
        Sweep, models.SET_NULL, null=True, blank=True, related_name="trainings"
    )
    tags = models.ManyToManyField(Tag, related_name="trainings", blank=True)

    objects = TrainingQuerySet.as_manager()

    class Meta:
        db_table = "trainings"
        ordering = ("-created_at",)
        indexes = [models.Index(fields=("status", "-priority", "queued_at"))]

    def __str__(self) -> str:
        return self.name

    @property
    def tag_names(self) -> list[str]:
        return [tag.name for tag in self.tags.all()]

    @property
    def file_stem(self) -> str:
        """Its name as that of a file, without an ending."""
        return slugify(self.name) or str(self.id)

    @property
    def config(self) -> TrainingConfig:
        return TrainingConfig.model_validate(
            {
                "architecture": self.architecture,
                "layer": self.layer,
                "hyperparameters": self.hyperparameters,
                "start_from": self.origin.get("id"),
            },
            context={"ranges": False},
        )

    @property
    def what_it_needs(self) -> Needs:
        return Needs.of(self.needs, self.hyperparameters.get("gpus"))

    @property
    def layers(self) -> tuple[int, ...]:
        """The blocks it reads: one, or those of a crosscoder."""
        spans = Architecture(self.architecture).spans
        return settled_layers(self.config) if spans else (self.layer,)

    @property
    def where(self) -> str:
        """Where it reads, in words."""
        return places(self.layers)

    @property
    def start_spec(self) -> StartSpec | None:
        """The SAE it starts from, as it was when the training was asked for."""
        if not self.origin:
            return None
        name, folder = self.origin["name"], Path(self.origin["path"])
        return StartSpec(name=name, folder=folder, digest=self.run_facts.get("start_digest") or "")

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

    def log_of(self, attempt: int) -> Path:
        return self.attempt_folder(attempt) / "log.jsonl"

    @property
    def log_path(self) -> Path:
        """Of the newest attempt."""
        return self.log_of(self.attempt)

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
