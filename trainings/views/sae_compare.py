"""Up to eight SAEs side by side, trained here or taken in: what they are, and their worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from trainings import rights
from trainings.comparison import UNKNOWN, facts, figures, obstacles
from trainings.evaluations import Evaluations, Measured
from trainings.models import Sae, Tokenization
from trainings.pareto import Point, drawn

from .compare import MAX_CANDIDATES, MOST, ids_asked, ids_compared
from .marks import Mark, mark
from .pages import ids_of


@dataclass(frozen=True)
class Column:
    """One SAE beside others: its mark, what was measured, and the address without it."""

    measured: Measured
    mark: Mark
    without: str
    may_evaluate: bool

    @property
    def sae(self) -> Sae:
        return self.measured.sae

    @property
    def point(self) -> Point | None:
        return Point(self.measured) if drawn(self.measured) else None


@require_safe
def compare(request: HttpRequest) -> HttpResponse:
    saes = _there(ids_compared(request))
    evaluations = Evaluations(saes)
    text = _text(request, evaluations)
    columns = [_column(request, evaluations.on(sae, text), i, saes) for i, sae in enumerate(saes)]
    measured = [each.measured for each in columns]
    context = {
        "columns": columns,
        "facts": list(facts(saes)) if saes else [],
        "unknown": UNKNOWN,
        "groups": figures(measured),
        "obstacles": obstacles(measured),
        "text": text,
        "texts": _texts(evaluations),
        "under_way": [each for each in measured if each.job],
        "lacking": not all(each.whole for each in measured),
        "any_ce": any(each.point and each.point.ce_lost is not None for each in columns),
        "candidates": _candidates(saes),
        "trainings": [sae.training_id for sae in saes if sae.training_id],
        "ids": _joined(saes),
    }
    return render(request, "sae/compare.html", context)


@require_safe
def jobs(request: HttpRequest) -> HttpResponse:
    """The evaluations under way that the page shows; once one has ended, the page is due."""
    saes = _there(ids_asked(request)[:MOST])
    evaluations = Evaluations(saes)
    text = _text(request, evaluations)
    found = [each for sae in saes if (each := evaluations.on(sae, text)).job]
    shown = set(ids_of(request.GET.get("shown", "").split(","), MOST))
    response = render(request, "sae/_compared_jobs.html", {"under_way": found})
    if shown - {each.job.pk for each in found if each.job}:
        response["HX-Refresh"] = "true"
    return response


def _there(ids: Sequence[UUID]) -> list[Sae]:
    """Those that are there, in the order they were asked for."""
    rows = {sae.pk: sae for sae in Sae.objects.visible().filter(pk__in=ids)}
    return [rows[pk] for pk in ids if pk in rows]


def _text(request: HttpRequest, evaluations: Evaluations) -> Tokenization | None:
    """The one the address names; else the one that all have in common; else each one's own."""
    texts, wanted = evaluations.texts(), request.GET.get("on", "")
    if wanted == "own":
        return None
    named = ids_of([wanted], 1)
    if named:
        ready: Any = Tokenization.objects.ready().select_related("dataset", "model")
        models = {sae.language_model.pk for sae in evaluations.saes}
        found: Tokenization | None = ready.filter(pk=named[0], model__in=models).first()
        if found and len(models) == 1:
            return found
    return evaluations.shared or next((t for t, n in texts if n == len(evaluations.saes)), None)


def _texts(evaluations: Evaluations) -> list[tuple[Tokenization, int]]:
    """Texts that all could be measured on, and on how many of them each was; none of two models."""
    models = {sae.language_model.pk for sae in evaluations.saes}
    if len(models) != 1:
        return []
    counts = {text.pk: n for text, n in evaluations.texts()}
    ready = Tokenization.objects.ready().filter(model__in=models)
    found = [(text, counts.get(text.pk, 0)) for text in ready.select_related("dataset", "model")]
    return sorted(found, key=lambda each: -each[1])


def _column(request: HttpRequest, measured: Measured, number: int, saes: list[Sae]) -> Column:
    sae = measured.sae
    others = [other for other in saes if other != sae]
    query = {"ids": _joined(others)} | ({"on": on} if (on := request.GET.get("on")) else {})
    without = f"{reverse('compare_saes')}?{urlencode(query, safe=',')}"
    may = sae.ready and rights.may_change(request.user, sae.training or sae)
    return Column(measured, mark(number), without, may)


def _candidates(saes: Sequence[Sae]) -> list[Sae]:
    """What could be added, the newest first."""
    if len(saes) >= MOST:
        return []
    others = Sae.objects.visible().filter(ready=True).exclude(pk__in=[sae.pk for sae in saes])
    return list(others[:MAX_CANDIDATES])


def _joined(saes: Sequence[Sae]) -> str:
    return ",".join(str(sae.pk) for sae in saes)
