"""Where a training can go on from."""

from __future__ import annotations

import math
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from django.db import models
from django.db.models.functions import Now

if TYPE_CHECKING:
    from .training import Training

KEEP_NEWEST = 3


class CheckpointQuerySet(models.QuerySet["Checkpoint"]):
    def usable(self) -> CheckpointQuerySet:
        """Those that verified when they were last looked at."""
        return self.filter(set_aside="")

    def of_this_run(self, training: Training) -> CheckpointQuerySet:
        """Without those from before the training was begun again from scratch."""
        return self.filter(training=training, attempt__gte=training.fresh_since_attempt)

    def to_go_on_from(self, training: Training) -> tuple[Path, ...]:
        """Folders of the usable ones of this run, the newest first."""
        own = self.of_this_run(training).usable().order_by("-step", "-attempt")
        return tuple(map(Path, own.values_list("path", flat=True)))

    def surplus(self, training: Training) -> list[Checkpoint]:
        """What nobody needs: all but the newest three, the one of the lowest FVU and the pinned.

        What a run begun again from scratch left behind is surplus once the new one has a
        checkpoint of its own.
        """
        own = list(self.of_this_run(training).usable())
        if not own:
            return []
        best = min(own, key=lambda c: math.inf if c.fvu is None else c.fvu)
        kept = {c.pk for c in (*own[:KEEP_NEWEST], best)}
        unpinned = self.filter(training=training, pinned=False).usable()
        return [c for c in unpinned if c.pk not in kept]


class Checkpoint(models.Model):
    """A folder written by one attempt; it counts as long as its manifest verifies."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    training = models.ForeignKey("trainings.Training", models.CASCADE, related_name="checkpoints")
    attempt = models.PositiveIntegerField()
    step = models.PositiveIntegerField()
    path = models.CharField(max_length=500)
    size_bytes = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    fvu = models.FloatField(null=True, help_text="Of the last logged point before it.")
    pinned = models.BooleanField(default=False, help_text="Never deleted while the training is.")
    set_aside = models.CharField(
        max_length=500, blank=True, help_text="Why it can no longer be used; empty if it can."
    )
    created_at = models.DateTimeField(db_default=Now())

    objects = CheckpointQuerySet.as_manager()

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
