"""One training: its page, its hyperparameters, its points, and what can be done to it."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from saestudio.streaming import SentFile
from trainings import fetching, logs, store, wishes
from trainings.forms import NotesForm
from trainings.models import Checkpoint, Training, TrainingMetric
from trainings.rights import changeable

from .cards import Card, card_of, changed
from .density import density
from .hyperparameters import settings
from .pages import back, dialog, in_page, whole
from .points import CHARTS

TABLE_ROWS = 200
_ELSEWHERE = "The log lies on the host of its worker; it can be read here once the attempt is over."
MAX_CHECKPOINTS = 50
MAX_ATTEMPTS = 6


@require_safe
def training(request: HttpRequest, training_id: uuid.UUID) -> HttpResponse:
    card = card_of(training_id)
    context = {
        **_panels(card),
        "charts": CHARTS,
        "notes": NotesForm(None, instance=card.training),
        **_log(request, card.training),
        **settings(card),
        "table": _table(card.training) if "table" in request.GET else None,
    }
    return render(request, "training/detail.html", context)


@require_safe
def panels(request: HttpRequest, training_id: uuid.UUID) -> HttpResponse:
    """The parts of its page that a checkpoint or its end changes."""
    return render(request, "training/_panels.html", _panels(card_of(training_id)))


@require_safe
def log(request: HttpRequest, training_id: uuid.UUID) -> HttpResponseBase:
    """The last lines of an attempt's log; with `download`, the file that holds them."""
    run = get_object_or_404(Training.objects.visible(), pk=training_id)
    if "download" not in request.GET:
        return render(request, "training/_log.html", {"training": run, **_log(request, run)})
    attempt = _attempt(request, run)
    path = run.log_of(attempt)
    fetching.demand(path)
    if not path.is_file():
        raise Http404("This attempt has no log.")
    return SentFile(path, f"{run.id}-{attempt}.jsonl")


@require_POST
def stop(request: HttpRequest, training_id: uuid.UUID) -> HttpResponse:
    if not Training.objects.request_stop(_changeable(request, training_id).pk):
        messages.info(request, "It had already ended, or is stopping.")
    return _changed(request, training_id)


@require_POST
def resume(request: HttpRequest, training_id: uuid.UUID) -> HttpResponse:
    return _restart(request, training_id, from_scratch=False)


@require_POST
def run_next(request: HttpRequest, training_id: uuid.UUID) -> HttpResponse:
    if not Training.objects.run_next(_changeable(request, training_id).pk):
        messages.info(request, "It no longer waits.")
    return _changed(request, training_id)


@require_http_methods(["GET", "HEAD", "POST"])
def retry(request: HttpRequest, training_id: uuid.UUID) -> HttpResponse:
    """Asks from where; a post says it."""
    if request.method != "POST":
        card = card_of(training_id)
        newest = Checkpoint.objects.of_this_run(card.training).usable().first()
        return dialog(request, "training/_retry.html", {"card": card, "newest": newest})
    return _restart(request, training_id, from_scratch=request.POST.get("from") == "scratch")


@require_POST
def pin(request: HttpRequest, training_id: uuid.UUID, checkpoint_id: uuid.UUID) -> HttpResponse:
    """Keep a checkpoint for good, or leave it to the rule again."""
    run = _changeable(request, training_id)
    found = Checkpoint.objects.filter(pk=checkpoint_id, training=run)
    if not found.update(pinned=request.POST.get("pinned") == "true"):
        messages.info(request, "This checkpoint has been deleted meanwhile.")
    if not in_page(request):
        return back(request, reverse("training", args=[training_id]))
    card = card_of(training_id)
    context = {"card": card, "checkpoints": _checkpoints(card.training)}
    return render(request, "training/_checkpoints.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: HttpRequest, training_id: uuid.UUID) -> HttpResponse:
    """Asks first; a post deletes."""
    if request.method != "POST":
        return dialog(request, "training/_delete.html", {"card": card_of(training_id)})
    run = _changeable(request, training_id)
    if wishes.delete(run):
        messages.success(request, f"{run.name} and its files are being deleted.")
    return _changed(request, training_id)


def _changeable(request: HttpRequest, training_id: uuid.UUID) -> Training:
    runs = Training.objects.visible().select_related("owner")
    run: Training = changeable(request.user, runs, training_id)
    return run


def _restart(request: HttpRequest, training_id: uuid.UUID, *, from_scratch: bool) -> HttpResponse:
    run = _changeable(request, training_id)
    if not wishes.restart(run, from_scratch=from_scratch):
        messages.info(request, "Only a failed or stopped run can be started again.")
    return _changed(request, training_id)


def _changed(request: HttpRequest, training_id: uuid.UUID) -> HttpResponse:
    """The card's new parts for an open page; else the way back."""
    if not in_page(request):
        return back(request, reverse("trainings"))
    return changed(request, [training_id])


def _log(request: HttpRequest, run: Training) -> dict[str, object]:
    attempt = _attempt(request, run)
    newest = range(max(1, run.attempt - MAX_ATTEMPTS + 1), run.attempt + 1)
    path = run.log_of(attempt)
    waits = fetching.why_not_here(path)
    elsewhere = store.on() and not path.exists() and attempt == run.attempt and not run.has_ended
    return {
        "log": logs.tail(path),
        "log_waits": waits or (_ELSEWHERE if elsewhere else ""),
        "attempt": attempt,
        "attempts": newest,
    }


def _attempt(request: HttpRequest, run: Training) -> int:
    """The one that is asked for, where there was one; else the newest."""
    asked = whole(request, "attempt", run.attempt)
    return asked if 1 <= asked <= run.attempt else run.attempt


def _panels(card: Card) -> dict[str, object]:
    return {
        "card": card,
        "checkpoints": _checkpoints(card.training),
        "n_checkpoints": card.training.checkpoints.count(),
        "density": density(card.sae),
    }


def _checkpoints(run: Training) -> list[Checkpoint]:
    return list(run.checkpoints.all()[:MAX_CHECKPOINTS])


def _table(run: Training) -> list[TrainingMetric]:
    """The newest points, newest first."""
    return list(run.metrics.order_by("-step")[:TABLE_ROWS])
