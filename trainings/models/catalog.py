"""What a training reads: a language model, a dataset, and the one tokenized for the other."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, ClassVar, Self

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from workers.engine.config import ModelFacts

from .lease import Leased, LeasedQuerySet
from .owner import owned


class Status(models.TextChoices):
    """Of a row that a job prepares."""

    PENDING = "pending", "Pending"
    RUNNING = "running", "Preparing"
    READY = "ready", "Ready"
    FAILED = "failed", "Failed"


MAX_INTERRUPTIONS = 3


class CatalogQuerySet(LeasedQuerySet):
    def ready(self) -> Self:
        return self.filter(status=Status.READY)

    def unfinished(self) -> Self:
        return self.filter(status__in=(Status.PENDING, Status.RUNNING))

    def requeue_lost(self, pk: Any) -> bool:
        """Preparing starts anew, a few times at most: a half-made folder never counted."""
        lost = self.lost().filter(pk=pk, interruptions__lt=MAX_INTERRUPTIONS)
        again = {"status": Status.PENDING, "progress": 0.0, "lease_expires_at": None}
        return bool(lost.update(interruptions=F("interruptions") + 1, **again))

    def give_up_lost(self, pk: Any, reason: str) -> bool:
        """Fail a preparation that takes its worker along each time."""
        lost = self.lost().filter(pk=pk, interruptions__gte=MAX_INTERRUPTIONS)
        failed = {"status": Status.FAILED, "error_message": reason, "lease_expires_at": None}
        return bool(lost.update(**failed))

    def retry(self, pk: Any) -> bool:
        """Queue a failed preparation again."""
        failed = self.filter(pk=pk, status=Status.FAILED)
        again = {"status": Status.PENDING, "error_message": "", "progress": 0.0}
        return bool(failed.update(interruptions=0, **again))


class Prepared(Leased):
    """Something a job makes ready, with its progress and, if it failed, the reason."""

    FOLDER: ClassVar[str]

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    status = models.CharField(max_length=50, choices=Status.choices, default=Status.PENDING)
    progress = models.FloatField(default=0.0, help_text="Share done, 0 to 1.")
    progress_note = models.CharField(max_length=255, blank=True, default="")
    error_message = models.TextField(blank=True, default="")
    interruptions = models.PositiveIntegerField(default=0, db_default=0)
    size_bytes = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now())
    ready_at = models.DateTimeField(null=True, blank=True)
    owner = owned()

    objects: ClassVar[models.Manager[Any]] = CatalogQuerySet.as_manager()

    class Meta:
        abstract = True

    @property
    def folder(self) -> Path:
        """Where its files lie; derived, so that the data folder can be moved."""
        return Path(settings.HOME, self.FOLDER, str(self.id))

    @property
    def kept_folder(self) -> Path:
        """What a preparation that was broken off has left for the next attempt."""
        return self.folder.with_name(f"{self.id}.kept")

    @property
    def kind(self) -> str:
        return str(self._meta.verbose_name)


class LanguageModel(Prepared):
    """A transformer whose activations are read, kept as safetensors in a folder of its own."""

    FOLDER = "models"

    class Source(models.TextChoices):
        HUB = "hub", "Hugging Face"
        FOLDER = "folder", "Local folder"
        PACKAGE = "package", "Python package with a GGUF file"

    name = models.CharField(max_length=255)
    source = models.CharField(max_length=50, choices=Source.choices)
    location = models.CharField(max_length=500, help_text="Hub id, folder, or package name.")
    revision = models.CharField(max_length=100, blank=True, default="")
    architecture = models.CharField(max_length=100, blank=True, default="")
    d_model = models.PositiveIntegerField(null=True, blank=True)
    n_layers = models.PositiveIntegerField(null=True, blank=True)
    context_length = models.PositiveIntegerField(null=True, blank=True)
    vocab_size = models.PositiveIntegerField(null=True, blank=True)
    dtype = models.CharField(max_length=20, blank=True, default="")

    class Meta:
        db_table = "models"
        ordering = ("name",)
        constraints = [
            models.UniqueConstraint(
                fields=("source", "location", "revision"), name="model_registered_once"
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def known_as(self) -> str:
        """The name other tools know it by: its id on the hub, where it has one."""
        return self.location if self.source == self.Source.HUB else self.name

    @property
    def facts(self) -> ModelFacts | None:
        """Width and depth, as soon as they are known."""
        if not self.d_model or not self.n_layers:
            return None
        return ModelFacts(d_model=self.d_model, n_layers=self.n_layers)


class Dataset(Prepared):
    """Text to read: from the hub, from a local file, or the demo text every machine has."""

    FOLDER = "datasets"

    class Source(models.TextChoices):
        HUB = "hub", "Hugging Face"
        FILE = "file", "Local text, JSONL, Parquet or Arrow"
        DEMO = "demo", "Python's own documentation and source"

    name = models.CharField(max_length=255)
    source = models.CharField(max_length=50, choices=Source.choices)
    location = models.CharField(max_length=500, blank=True, default="")
    subset = models.CharField(max_length=100, blank=True, default="")
    split = models.CharField(max_length=100, blank=True, default="train")
    revision = models.CharField(max_length=100, blank=True, default="")
    text_column = models.CharField(max_length=100, blank=True, default="text")
    n_documents = models.BigIntegerField(null=True, blank=True)

    class Meta:
        db_table = "datasets"
        ordering = ("name",)
        constraints = [
            models.UniqueConstraint(
                fields=("source", "location", "subset", "split", "revision"),
                name="dataset_registered_once",
            )
        ]

    def __str__(self) -> str:
        return self.name


class TokenizationQuerySet(CatalogQuerySet):
    def claimable(self) -> Self:
        """Only once both the text and the model are there."""
        return super().claimable().filter(model__status=Status.READY, dataset__status=Status.READY)

    def hopeless(self) -> Self:
        """Waiting for a model or a dataset that failed."""
        failed = Q(model__status=Status.FAILED) | Q(dataset__status=Status.FAILED)
        return self.filter(failed, status=Status.PENDING)


class Tokenization(Prepared):
    """A dataset cut into contexts of one length by one model's tokenizer."""

    FOLDER = "tokenizations"

    class Bos(models.TextChoices):
        AUTO = "auto", "As the tokenizer does"
        ALWAYS = "always", "Before every context"
        NEVER = "never", "Never"

    dataset = models.ForeignKey(Dataset, models.PROTECT, related_name="tokenizations")
    model = models.ForeignKey(LanguageModel, models.PROTECT, related_name="tokenizations")
    context_length = models.PositiveIntegerField(default=256, validators=[MinValueValidator(8)])
    bos = models.CharField(max_length=10, choices=Bos.choices, default=Bos.AUTO)
    max_tokens = models.PositiveBigIntegerField(
        default=0, help_text="Stop after so many tokens; 0 reads the whole dataset."
    )
    n_tokens = models.BigIntegerField(null=True, blank=True)
    n_contexts = models.BigIntegerField(null=True, blank=True)

    objects: ClassVar[models.Manager[Any]] = TokenizationQuerySet.as_manager()

    class Meta:
        db_table = "dataset_tokenizations"
        ordering = ("dataset__name", "context_length")
        constraints = [
            models.UniqueConstraint(
                fields=("dataset", "model", "context_length", "bos", "max_tokens"),
                name="tokenized_once",
            )
        ]

    def __str__(self) -> str:
        return f"{self.dataset} · {self.model} · {self.context_length}"

    @property
    def path(self) -> Path:
        return self.folder
