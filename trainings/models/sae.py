"""What a training is for: the sparse autoencoder it left behind."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from django.db import models
from django.db.models.functions import Now

from workers.engine.config.sae_job import FEATURES_FILE, FORMATS

if TYPE_CHECKING:
    from .catalog import LanguageModel, Tokenization


class SaeQuerySet(models.QuerySet[Any]):
    def visible(self) -> Self:
        """Not of a training that is being deleted, with what a page says of each."""
        related = ("training__model", "training__dataset", "training__tokenization")
        found = self.filter(training__delete_requested_at=None)
        return found.select_related(*related, "training__owner")


class Sae(models.Model):
    """An exported SAE: its folder, and what it does on tokens it never saw."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    training = models.OneToOneField("trainings.Training", models.CASCADE, related_name="sae")
    path = models.CharField(max_length=500)
    format = models.CharField(max_length=50)
    step = models.PositiveIntegerField()
    evaluation = models.JSONField(default=dict)
    export = models.JSONField(default=dict)
    created_at = models.DateTimeField(db_default=Now())

    objects = SaeQuerySet.as_manager()

    class Meta:
        db_table = "saes"
        ordering = ("-created_at",)
        verbose_name = "SAE"

    def __str__(self) -> str:
        return f"SAE of {self.training}"

    @property
    def name(self) -> str:
        return self.training.name

    @property
    def language_model(self) -> LanguageModel:
        return self.training.model

    @property
    def text(self) -> Tokenization:
        """What it is evaluated on where nobody says otherwise."""
        return self.training.tokenization

    @property
    def held_out_tokens(self) -> int | None:
        """How many tokens of its text it was never trained on."""
        found: int | None = self.training.hyperparameters.get("held_out_tokens")
        return found

    @property
    def folder(self) -> Path:
        return Path(self.path)

    def export_path(self, format: str) -> Path:
        """Where it is written in another tool's format."""
        return self.folder.with_name("exports") / format

    def exported_file(self, format: str, name: str) -> Path | None:
        """A file of an export that is there, and no link out of it."""
        if format not in FORMATS:
            return None
        folder = self.export_path(format).resolve()
        path = (folder / name).resolve()
        return path if path.is_relative_to(folder) and path.is_file() else None

    @property
    def features_path(self) -> Path:
        """Beside the folder, which holds only what other tools read."""
        return self.folder.with_name(FEATURES_FILE)
