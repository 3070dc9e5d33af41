"""SAEs side by side over HTTP, and all of a model between sparsity and fidelity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any
from uuid import UUID

from django.http import Http404, HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Query, Router, Schema

from trainings.comparison import facts, figures, obstacles
from trainings.evaluations import Evaluations, Measured
from trainings.models import LanguageModel, Sae, Tokenization
from trainings.pareto import Chosen, Point, plane, saes_of
from workers.engine.config.hyperparameters import Hook

from .sae import Layer, SaeOut
from .schemas import Errors

router = Router()
MOST = 8


class ComparedOut(Schema):
    """One SAE; `evaluation` is that on `tokenization_id`, empty where there is none.

    `held_out`: whether these tokens were held out from its training; else nobody knows.
    """

    sae: SaeOut
    tokenization_id: UUID
    held_out: bool
    evaluation: dict[str, Any]


class FactOut(Schema):
    """What the SAEs are, a value for each of them, as their page words it."""

    section: str
    label: str
    values: list[str]
    differs: bool


class FigureOut(Schema):
    """One figure, a value for each SAE; counts are also told as shares of its latents.

    `best` holds the ids of the best, none where figures do not compare or none is better.
    """

    group: str
    name: str
    label: str
    meaning: str
    values: list[float | None]
    shares: list[float | None]
    best: list[UUID]


class ComparisonOut(Schema):
    """`obstacles` say why the figures do not compare; they do where there is none."""

    items: list[ComparedOut]
    facts: list[FactOut]
    figures: list[FigureOut]
    obstacles: list[str]


class PointOut(Schema):
    """Where one SAE stands; `on_fvu_front`: no other beats it in both L0 and FVU."""

    id: UUID
    name: str
    architecture: str
    layer: int | None
    hook: str
    width: int | None
    tokenization_id: UUID
    held_out: bool
    l0: float
    fvu: float
    ce_recovered: float | None
    on_fvu_front: bool
    on_ce_front: bool


class PlaneOut(Schema):
    """`tokenization_id` is what all were measured on; null for each on its own.

    `missing` are ids of those that were not measured on it; `obstacles` say why points do not
    compare.
    """

    tokenization_id: UUID | None
    items: list[PointOut]
    missing: list[UUID]
    obstacles: list[str]


@router.get("/compare", response={200: ComparisonOut, 404: Errors, 422: Errors})
def compare(
    request: HttpRequest,
    ids: Annotated[list[UUID], Query(min_length=1, max_length=MOST)],
    tokenization_id: UUID | None = None,
) -> dict[str, Any]:
    """Up to eight, in the order of `ids`, on one text; without one each on its own."""
    rows = {sae.pk: sae for sae in Sae.objects.visible().filter(pk__in=ids)}
    if set(ids) - set(rows):
        raise Http404
    saes = [rows[pk] for pk in dict.fromkeys(ids)]
    models = {sae.language_model.pk for sae in saes}
    text = _text(tokenization_id, models) if tokenization_id else None
    evaluations = Evaluations(saes)
    columns = [evaluations.on(sae, text) for sae in saes]
    return {
        "items": [_compared(each) for each in columns],
        "facts": list(facts(saes)),
        "figures": list(_figures(columns)),
        "obstacles": obstacles(columns),
    }


@router.get("/pareto", response={200: PlaneOut, 404: Errors, 422: Errors})
def pareto(
    request: HttpRequest,
    model_id: UUID,
    tokenization_id: UUID | None = None,
    own: bool = False,
    layer: Layer | None = None,
    hook: Hook | None = None,
    width: Annotated[int, Query(ge=1, le=2**31 - 1)] | None = None,
) -> dict[str, Any]:
    """A model's evaluated SAEs, the newest 500 at most, from the sparsest to the densest.

    On one text: that of `tokenization_id`, else the one on which most were measured; with `own`
    each on its own.
    """
    model = get_object_or_404(LanguageModel, pk=model_id)
    text = _text(tokenization_id, {model.pk}) if tokenization_id else None
    chosen = Chosen(layer=layer, hook=hook, width=width, text=text, own=own)
    found = plane(saes_of(model), chosen)
    return {
        "tokenization_id": found.text and found.text.pk,
        "items": [_point(point, found.fvu_front, found.ce_front) for point in found.points],
        "missing": [each.sae.pk for each in found.missing],
        "obstacles": obstacles([point.measured for point in found.points]),
    }


def _compared(each: Measured) -> dict[str, Any]:
    return {
        "sae": each.sae,
        "tokenization_id": each.text.pk,
        "held_out": each.held_out,
        "evaluation": each.figures,
    }


def _figures(columns: Sequence[Measured]) -> Iterator[dict[str, Any]]:
    for group in figures(columns):
        for row in group.rows:
            cells = list(zip(columns, row.cells, strict=True))
            yield {
                "group": group.title,
                "name": row.entry.name,
                "label": row.entry.label,
                "meaning": row.entry.meaning,
                "values": [cell.shown and cell.shown.value for cell in row.cells],
                "shares": [cell.share for cell in row.cells],
                "best": [each.sae.pk for each, cell in cells if cell.best],
            }


def _point(point: Point, fvu_front: set[UUID], ce_front: set[UUID]) -> dict[str, Any]:
    sae = point.sae
    return {
        "id": sae.pk,
        "name": sae.name,
        "architecture": SaeOut.resolve_architecture(sae),
        "layer": sae.layer,
        "hook": sae.hook,
        "width": sae.width,
        "tokenization_id": point.measured.text.pk,
        "held_out": point.measured.held_out,
        "l0": point.l0,
        "fvu": point.fvu,
        "ce_recovered": point.ce_recovered,
        "on_fvu_front": sae.pk in fvu_front,
        "on_ce_front": sae.pk in ce_front,
    }


def _text(pk: UUID, models: set[UUID]) -> Tokenization:
    """One of the model that all share; Http404 where it is of another."""
    rows = Tokenization.objects.select_related("dataset", "model").filter(model__in=models)
    found: Tokenization = get_object_or_404(rows, pk=pk)
    if len(models) > 1:
        raise Http404
    return found
