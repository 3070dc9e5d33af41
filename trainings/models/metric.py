"""The numbers of a training over its steps."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models.functions import Now


class TrainingMetric(models.Model):
    """One logged point; a rate or mean is over the steps since the point before it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    training = models.ForeignKey("trainings.Training", models.CASCADE, related_name="metrics")
    step = models.PositiveIntegerField()
    loss = models.FloatField(null=True)
    l0 = models.FloatField(null=True)
    l1 = models.FloatField(null=True)
    reconstruction_loss = models.FloatField(null=True)
    fvu = models.FloatField(null=True)
    dead_neurons = models.PositiveIntegerField(null=True)
    tokens_seen = models.BigIntegerField(null=True)
    tokens_per_second = models.FloatField(null=True)
    learning_rate = models.FloatField(null=True)
    coefficient = models.FloatField(null=True)
    fvu_skip = models.FloatField(null=True)
    fvu_latents = models.FloatField(null=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "training_metrics"
        ordering = ("step",)
        constraints = [
            models.UniqueConstraint(fields=("training", "step"), name="one_metric_per_step")
        ]

    def __str__(self) -> str:
        return f"step {self.step}"


METRIC_FIELDS = (
    "step",
    "loss",
    "l0",
    "l1",
    "reconstruction_loss",
    "fvu",
    "dead_neurons",
    "tokens_seen",
    "tokens_per_second",
    "learning_rate",
    "coefficient",
    "fvu_skip",
    "fvu_latents",
)
