"""What a training is for: the sparse autoencoder it left behind."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models.functions import Now


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

    class Meta:
        db_table = "saes"
        ordering = ("-created_at",)
        verbose_name = "SAE"

    def __str__(self) -> str:
        return f"SAE of {self.training}"
