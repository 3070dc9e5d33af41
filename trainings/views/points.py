"""A training's points: as curves for the charts, and whole for other programs."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_safe
from numpy.typing import NDArray

from saestudio.streaming import Pieces
from trainings.models import METRIC_FIELDS, Training, TrainingMetric
from workers.engine.events import finite

from .downsample import Point, downsample
from .pages import whole

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
# What a training's page, its comparison and its report draw, with their titles.
CHARTS = {
    "loss": "Loss",
    "fvu": "FVU",
    "l0": "L0",
    "dead_neurons": "Dead neurons",
    "reconstruction_loss": "Reconstruction loss",
    "tokens_per_second": "Tokens per second",
}
MAX_POINTS = 1000
PER_PIECE = 2000
# The largest that a column of steps holds.
LAST_STEP = 2**31 - 1


@dataclass(frozen=True)
class Curves:
    """Thinned [step, value] pairs by metric, null where a value was not finite.

    `elapsed` holds seconds of training since the step asked for, pauses left out.
    """

    series: dict[str, list[Point]]
    last_step: int


def curves(run: Training, after: int, limit: int) -> Curves:
    """Of the points after this step; -1 means all."""
    rows = list(run.metrics.filter(step__gt=after).values_list("step", *SERIES))
    # An unknown value is None in a row and no number in the table.
    table = np.array(rows, dtype=np.float64).reshape(-1, 1 + len(SERIES))
    steps = table[:, 0].astype(np.int64)
    series = {name: downsample(steps, table[:, i], limit) for i, name in enumerate(SERIES, 1)}
    series["elapsed"] = downsample(steps, _elapsed(run, table, max(after, 0)), limit)
    return Curves(series, rows[-1][0] if rows else max(after, 0))


def telling_steps(points: QuerySet[TrainingMetric], limit: int) -> list[int]:
    """At most so many steps (at least 4) that keep the shape of the loss, in their order."""
    rows = list(points.values_list("step", "loss"))
    table = np.array(rows, dtype=np.float64).reshape(-1, 2)
    return [step for step, _ in downsample(table[:, 0].astype(np.int64), table[:, 1], limit)]


@require_safe
def points(request: HttpRequest, training_id: uuid.UUID) -> HttpResponse:
    """The curves after a step, and the marks of the whole run."""
    run = get_object_or_404(Training.objects.visible(), pk=training_id)
    limit = max(4, min(whole(request, "max_points", MAX_POINTS), MAX_POINTS))
    found = curves(run, min(whole(request, "after_step", -1), LAST_STEP), limit)
    return JsonResponse(
        {
            "seq": run.event_seq,
            "attempt": run.attempt,
            "last_step": found.last_step,
            "series": found.series,
            "marks": _marks(run),
        }
    )


@require_safe
def export_points(request: HttpRequest, training_id: uuid.UUID, kind: str) -> HttpResponseBase:
    """Every point as it was logged, as CSV or JSON lines would have it: one row a point."""
    run = get_object_or_404(Training.objects.visible(), pk=training_id)
    if kind not in ("csv", "json"):
        raise Http404("Points are exported as csv or json.")
    body = _csv(_rows(run)) if kind == "csv" else _json(_rows(run))
    types = {"csv": "text/csv; charset=utf-8", "json": "application/json"}
    answer = Pieces(body, content_type=types[kind])
    answer["Content-Disposition"] = f'attachment; filename="{run.file_stem}.{kind}"'
    return answer


def _rows(run: Training) -> Iterator[tuple[Any, ...]]:
    """In their order; a question for each piece: one for all would hold the database open for as
    long as somebody takes to read the answer."""
    last = -1
    while rows := list(
        run.metrics.filter(step__gt=last).order_by("step").values_list(*METRIC_FIELDS)[:PER_PIECE]
    ):
        yield from rows
        last = rows[-1][METRIC_FIELDS.index("step")]


def _elapsed(run: Training, table: NDArray[np.float64], after: int) -> NDArray[np.float64]:
    """Seconds of training from step `after` to each row's; table: [n, 1 + series]."""
    tokens = np.diff(table[:, 0], prepend=after) * run.hyperparameters["batch_size"]
    speed = table[:, 1 + SERIES.index("tokens_per_second")]
    known = np.isfinite(speed) & (speed > 0)
    seconds = np.divide(tokens, speed, out=np.zeros_like(tokens), where=known)
    return np.asarray(np.cumsum(seconds))


def _marks(run: Training) -> list[dict[str, Any]]:
    """What happened at which step: checkpoints, and what the run itself told."""
    saved = run.checkpoints.usable().filter(attempt__gte=run.fresh_since_attempt)
    steps = saved.values_list("step", flat=True).distinct().order_by("step")
    kept = [{"kind": "checkpoint", "step": step, "text": "Checkpoint"} for step in steps]
    return [*kept, *run.marks]


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
