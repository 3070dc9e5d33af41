"""One training: its page, its hyperparameters, its points, and what can be done to it."""

from __future__ import annotations

import json
import shlex
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from django.contrib import messages
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    JsonResponse,
    StreamingHttpResponse,
)
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.text import slugify
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from trainings import logs, wishes
from trainings.models import METRIC_FIELDS, Checkpoint, Training, TrainingMetric
from workers.engine.config import FieldSpec, sections
from workers.engine.config.fields import show as show_number
from workers.engine.events import finite

from .cards import Card, cards, changed, shown
from .downsample import downsample
from .pages import back, dialog, in_page

SERIES = (
    "loss",
    "fvu",
    "l0",
    "dead_neurons",
    "reconstruction_loss",
    "l1",
    "tokens_per_second",
    "coefficient",
    "learning_rate",
)
MAX_POINTS = 1000
TABLE_ROWS = 200
MAX_CHECKPOINTS = 50
MAX_ATTEMPTS = 6


@require_safe
def training(request: HttpRequest, training_id: uuid.UUID) -> HttpResponse:
    card = _card(training_id)
    context = {
        "card": card,
        "checkpoints": _checkpoints(card.training),
        **_log(request, card.training),
        "table": _table(card.training) if "table" in request.GET else None,
    }
    return render(request, "training/detail.html", context)


@require_safe
def points(request: HttpRequest, training_id: uuid.UUID) -> HttpResponse:
    """Curves after a step: per series [step, value] pairs, null where a value was not finite."""
    run = get_object_or_404(Training.objects.visible(), pk=training_id)
    after, limit = _whole(request, "after_step", -1), _whole(request, "max_points", MAX_POINTS)
    rows = list(run.metrics.filter(step__gt=after).values_list("step", *SERIES))
    # An unknown value is None in a row and no number in the table.
    table = np.array(rows, dtype=np.float64).reshape(-1, 1 + len(SERIES))
    steps, limit = table[:, 0].astype(np.int64), max(4, min(limit, MAX_POINTS))
    series = {name: downsample(steps, table[:, i], limit) for i, name in enumerate(SERIES, 1)}
    last = rows[-1][0] if rows else max(after, 0)
    answer = {"seq": run.event_seq, "attempt": run.attempt, "last_step": last, "series": series}
    return JsonResponse(answer)


@require_safe
def export_points(request: HttpRequest, training_id: uuid.UUID, kind: str) -> HttpResponseBase:
    """Every point as it was logged, as CSV or JSON lines would have it: one row a point."""
    run = get_object_or_404(Training.objects.visible(), pk=training_id)
    if kind not in ("csv", "json"):
        raise Http404("Points are exported as csv or json.")
    rows = run.metrics.values_list(*METRIC_FIELDS).iterator(chunk_size=2000)
    body = _csv(rows) if kind == "csv" else _json(rows)
    types = {"csv": "text/csv; charset=utf-8", "json": "application/json"}
    answer = StreamingHttpResponse(body, content_type=types[kind])
    name = slugify(run.name) or run.id
    answer["Content-Disposition"] = f'attachment; filename="{name}.{kind}"'
    return answer


@require_safe
def log(request: HttpRequest, training_id: uuid.UUID) -> HttpResponseBase:
    """The last lines of an attempt's log; with `download`, the file that holds them."""
    run = get_object_or_404(Training.objects.visible(), pk=training_id)
    if "download" not in request.GET:
        return render(request, "training/_log.html", {"training": run, **_log(request, run)})
    attempt = _attempt(request, run)
    path = run.log_of(attempt)
    if not path.is_file():
        raise Http404("This attempt has no log.")
    return FileResponse(path.open("rb"), as_attachment=True, filename=f"{run.id}-{attempt}.jsonl")


@require_safe
def hyperparameters(request: HttpRequest, training_id: uuid.UUID) -> HttpResponse:
    card = _card(training_id)
    context = {
        "card": card,
        "sections": [
            (section, [_value(card, spec) for spec in specs]) for section, specs in _specs(card)
        ],
        "as_json": json.dumps(card.training.config.model_dump(mode="json"), indent=2),
        "as_command": _command(card),
    }
    return dialog(request, "training/_hyperparameters.html", context)


@require_POST
def stop(request: HttpRequest, training_id: uuid.UUID) -> HttpResponse:
    if not Training.objects.request_stop(training_id):
        messages.info(request, "It had already ended, or is stopping.")
    return _changed(request, training_id)


@require_POST
def resume(request: HttpRequest, training_id: uuid.UUID) -> HttpResponse:
    return _restart(request, training_id, from_scratch=False)


@require_POST
def run_next(request: HttpRequest, training_id: uuid.UUID) -> HttpResponse:
    if not Training.objects.run_next(training_id):
        messages.info(request, "It no longer waits.")
    return _changed(request, training_id)


@require_http_methods(["GET", "HEAD", "POST"])
def retry(request: HttpRequest, training_id: uuid.UUID) -> HttpResponse:
    """Asks from where; a post says it."""
    if request.method != "POST":
        card = _card(training_id)
        newest = Checkpoint.objects.of_this_run(card.training).usable().first()
        return dialog(request, "training/_retry.html", {"card": card, "newest": newest})
    return _restart(request, training_id, from_scratch=request.POST.get("from") == "scratch")


@require_POST
def pin(request: HttpRequest, training_id: uuid.UUID, checkpoint_id: uuid.UUID) -> HttpResponse:
    """Keep a checkpoint for good, or leave it to the rule again."""
    found = Checkpoint.objects.filter(pk=checkpoint_id, training=training_id)
    if not found.update(pinned=request.POST.get("pinned") == "true"):
        messages.info(request, "This checkpoint has been deleted meanwhile.")
    if not in_page(request):
        return back(request, reverse("training", args=[training_id]))
    card = _card(training_id)
    context = {"card": card, "checkpoints": _checkpoints(card.training)}
    return render(request, "training/_checkpoints.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: HttpRequest, training_id: uuid.UUID) -> HttpResponse:
    """Asks first; a post deletes."""
    if request.method != "POST":
        return dialog(request, "training/_delete.html", {"card": _card(training_id)})
    run = get_object_or_404(Training.objects.visible(), pk=training_id)
    if wishes.delete(run):
        messages.success(request, f"{run.name} and its files are being deleted.")
    return _changed(request, training_id)


def _restart(request: HttpRequest, training_id: uuid.UUID, *, from_scratch: bool) -> HttpResponse:
    run = get_object_or_404(Training.objects.visible(), pk=training_id)
    if not wishes.restart(run, from_scratch=from_scratch):
        messages.info(request, "Only a failed or stopped run can be started again.")
    return _changed(request, training_id)


def _changed(request: HttpRequest, training_id: uuid.UUID) -> HttpResponse:
    """The card's new parts for an open page; else the way back."""
    if not in_page(request):
        return back(request, reverse("trainings"))
    return changed(request, [training_id])


def _card(training_id: uuid.UUID) -> Card:
    return cards([get_object_or_404(shown(), pk=training_id)])[0]


def _csv(rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    yield ",".join(METRIC_FIELDS) + "\r\n"
    for row in rows:
        yield ",".join("" if value is None else repr(value) for value in row) + "\r\n"


def _json(rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    """One list of objects, written as it is read."""
    before = "["
    for row in rows:
        yield before + json.dumps(finite(dict(zip(METRIC_FIELDS, row, strict=True))))
        before = ",\n"
    yield "[]\n" if before == "[" else "]\n"


def _log(request: HttpRequest, run: Training) -> dict[str, object]:
    attempt = _attempt(request, run)
    newest = range(max(1, run.attempt - MAX_ATTEMPTS + 1), run.attempt + 1)
    return {"log": logs.tail(run.log_of(attempt)), "attempt": attempt, "attempts": newest}


def _attempt(request: HttpRequest, run: Training) -> int:
    """The one that is asked for, where there was one; else the newest."""
    asked = _whole(request, "attempt", run.attempt)
    return asked if 1 <= asked <= run.attempt else run.attempt


def _checkpoints(run: Training) -> list[Checkpoint]:
    return list(run.checkpoints.all()[:MAX_CHECKPOINTS])


def _specs(card: Card) -> list[tuple[str, list[FieldSpec]]]:
    """The sections with those fields that mean something for this architecture."""
    architecture = card.training.architecture
    return [
        (section.value, [spec for spec in specs if spec.applies_to(architecture)])
        for section, specs in sections().items()
    ]


def _value(card: Card, spec: FieldSpec) -> dict[str, object]:
    value = card.training.hyperparameters.get(spec.name, spec.default)
    return {
        "spec": spec,
        "text": value if isinstance(value, str) else show_number(value),
        "default": spec.default if isinstance(spec.default, str) else show_number(spec.default),
        "changed": spec.name in card.changed,
    }


def _command(card: Card) -> str:
    """The same training as a `manage.py train` command line."""
    run = card.training
    parts = ["manage.py", "train", "--model", run.model.name, "--dataset", run.dataset.name]
    parts += ["--layer", str(run.layer), "--architecture", run.architecture]
    for name, value in card.changed.items():
        parts += ["--set", f"{name}={'null' if value is None else value}"]
    return shlex.join(parts)


def _table(run: Training) -> list[TrainingMetric]:
    """The newest points, newest first."""
    return list(run.metrics.order_by("-step")[:TABLE_ROWS])


def _whole(request: HttpRequest, name: str, default: int) -> int:
    try:
        return int(request.GET.get(name, default))
    except ValueError:
        return default
