"""A training's settings, kept under a name to start from again."""

from __future__ import annotations

import uuid
from itertools import count
from typing import Any

from django.db import models
from django.db.models import F
from django.db.models.functions import Now

from trainings.models.owner import owned
from workers.engine.config import FIELDS, Architecture

from .settings import MOST_NAME


class TemplateQuerySet(models.QuerySet["TrainingTemplate"]):
    def free_name(self, name: str) -> str:
        """The name, or the name with the first number that is free."""
        if not self.filter(name=name).exists():
            return name
        for number in count(2):
            end = f" ({number})"
            tried = name[: MOST_NAME - len(end)] + end
            if not self.filter(name=tried).exists():
                return tried
        raise AssertionError

    def of(self, text: str) -> TemplateQuerySet:
        """The one of this id; none where the text is no id, or of none."""
        try:
            return self.filter(pk=uuid.UUID(text))
        except ValueError:
            return self.none()

    def used(self, text: str) -> None:
        """A training was started from the one of this id."""
        self.of(text).update(usage_count=F("usage_count") + 1, last_used_at=Now())


class TrainingTemplate(models.Model):
    """Hyperparameters as `workers.engine.config.Hyperparameters` takes them, and their use."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=MOST_NAME)
    description = models.TextField(blank=True)
    architecture = models.CharField(
        max_length=50,
        blank=True,
        choices=[(a.value, a.label) for a in Architecture],
        help_text="Empty: the settings are for any.",
    )
    hyperparameters = models.JSONField()
    is_favorite = models.BooleanField(default=False)
    usage_count = models.PositiveIntegerField(default=0)
    last_used_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    owner = owned()

    objects = TemplateQuerySet.as_manager()

    class Meta:
        db_table = "training_templates"
        ordering = ("-is_favorite", "name", "created_at")

    def __str__(self) -> str:
        return self.name

    @property
    def changed(self) -> dict[str, Any]:
        """Hyperparameters that differ from their defaults."""
        return {
            name: value
            for name, value in self.hyperparameters.items()
            if name in FIELDS and value != FIELDS[name].default
        }

    def duplicate(self, owner: Any) -> TrainingTemplate:
        """A copy under a free name, not used yet and no favourite."""
        return TrainingTemplate.objects.create(
            name=TrainingTemplate.objects.free_name(self.name),
            description=self.description,
            architecture=self.architecture,
            hyperparameters=self.hyperparameters,
            owner=owner,
        )
