"""How often latents fired at moments of a training: the frames of a film."""

from __future__ import annotations

from django.db import models


class TrainingDensity(models.Model):
    """The density histogram at one step, over the window in which dead latents are counted."""

    training = models.ForeignKey("trainings.Training", models.CASCADE, related_name="densities")
    step = models.PositiveIntegerField()
    tokens = models.PositiveBigIntegerField()
    density = models.JSONField()

    class Meta:
        db_table = "training_densities"
        ordering = ("step",)
        constraints = [
            models.UniqueConstraint(fields=("training", "step"), name="density_once_a_step")
        ]

    def __str__(self) -> str:
        return f"{self.training} at step {self.step:,}"
