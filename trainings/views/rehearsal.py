"""What was measured before the start, as the Start Training dialog shows it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from trainings.models import Rehearsal
from trainings.shortage import shortages

DEVICES = {"cpu": "the processor", "cuda": "the GPU"}


@dataclass(frozen=True)
class Measurement:
    """What is derived from a row for display."""

    rehearsal: Rehearsal

    @property
    def under_way(self) -> bool:
        return self.rehearsal.status in ("pending", "running")

    @property
    def figures(self) -> dict[str, Any]:
        found: dict[str, Any] = self.rehearsal.figures
        return found

    @property
    def training_seconds(self) -> float:
        """Of the steps alone."""
        return float(self.rehearsal.config.hyperparameters.num_steps * self.figures["step_seconds"])

    @property
    def reading_seconds(self) -> float:
        """Of loading the model and reading activations: what the steps leave of the whole."""
        return float(self.figures["seconds"] - self.training_seconds)

    @property
    def step_ms(self) -> float:
        return float(1000 * self.figures["step_seconds"])

    @property
    def device(self) -> str:
        name = str(self.figures["device"])
        return DEVICES.get(name, name)

    @property
    def age(self) -> float:
        """Seconds since it was measured."""
        assert self.rehearsal.ended_at is not None
        return (timezone.now() - self.rehearsal.ended_at).total_seconds()

    @property
    def shortages(self) -> list[str]:
        return shortages(self.figures)


@require_safe
def show(request: HttpRequest, rehearsal_id: uuid.UUID) -> HttpResponse:
    """The fragment that renews itself; once its row is gone, it offers to measure again."""
    rehearsal = Rehearsal.objects.filter(pk=rehearsal_id).first()
    context = {
        "measurement": Measurement(rehearsal) if rehearsal else None,
        "place": rehearsal_id,
        "oob": True,
    }
    return render(request, "training/_start_measured.html", context)
