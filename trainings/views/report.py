"""A training as one HTML file that needs nothing else: to send, to print, to keep."""

from __future__ import annotations

import uuid
from pathlib import Path

from django.contrib.staticfiles import finders
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from trainings import logs

from .cards import card_of
from .density import density
from .drawing import draw
from .hyperparameters import settings
from .points import CHARTS, curves

MAX_POINTS = 600


@require_safe
def report(request: HttpRequest, training_id: uuid.UUID) -> HttpResponse:
    """Numbers, curves, configuration, checkpoints, notes and the end of the log, as a download."""
    card = card_of(training_id)
    run = card.training
    series = curves(run, -1, MAX_POINTS).series
    drawings = [draw(title, series[name], run.num_steps) for name, title in CHARTS.items()]
    context = {
        "card": card,
        "drawings": [drawing for drawing in drawings if drawing],
        "density": density(card.sae),
        "checkpoints": run.checkpoints.all(),
        "log": logs.tail(run.log_path),
        "series": series,
        "colours": Path(str(finders.find("css/tokens.css"))).read_text(encoding="utf-8"),
        "made_at": timezone.now(),
        **settings(card),
    }
    answer = render(request, "training/report.html", context)
    answer["Content-Disposition"] = f'attachment; filename="{run.file_stem}-report.html"'
    return answer
