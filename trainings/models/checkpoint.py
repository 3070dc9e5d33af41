"""Where a training can go on from."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models.functions import Now


class Checkpoint(models.Model):
    """A folder written by one attempt; it counts as long as its manifest verifies."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    training = models.ForeignKey("trainings.Training", models.CASCADE, related_name="checkpoints")
    attempt = models.PositiveIntegerField()
    step = models.PositiveIntegerField()
    path = models.CharField(max_length=500)
    size_bytes = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "checkpoints"
        ordering = ("-step", "-attempt")
        constraints = [
            models.UniqueConstraint(
                fields=("training", "attempt", "step"), name="one_checkpoint_per_attempt_and_step"
            )
        ]

    def __str__(self) -> str:
        return f"step {self.step}"
