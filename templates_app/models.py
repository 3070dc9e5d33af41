"""A training's settings, kept under a name to start from again."""

from __future__ import annotations

import uuid

from django.db import models


class TrainingTemplate(models.Model):
    """Hyperparameters as `workers.engine.config.Hyperparameters` takes them, and their use."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=255)
    description = models.TextField(blank=True)
    architecture = models.CharField(max_length=50, blank=True)
    hyperparameters = models.JSONField()
    is_favorite = models.BooleanField(default=False)
    usage_count = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "training_templates"
        ordering = ("-is_favorite", "name")

    def __str__(self) -> str:
        return self.name
