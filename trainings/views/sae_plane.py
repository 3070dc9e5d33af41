"""All evaluated SAEs of one model between sparsity and fidelity; the address says which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, get_args
from uuid import UUID

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from trainings import rights
from trainings.comparison import obstacles
from trainings.evaluations import Evaluations, Measured
from trainings.models import LanguageModel, Sae, Tokenization
from trainings.pareto import MOST, Chosen, Grouping, Plane, group_of, plane, saes_of

from .marks import Mark, mark
from .pages import ids_of

MAX_NAMED = 20


@dataclass(frozen=True)
class Looked:
    """What an address asks the plane to show; what makes no sense in it is left out."""

    model: LanguageModel | None
    by: Grouping
    place: str
    width: int | None
    text: UUID | None
    own: bool

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Self:
        by, width = query.get("by", ""), query.get("width", "")
        return cls(
            model=_model(query.get("model", "")),
            by="place" if by == "place" else "architecture",
            place=query.get("place", ""),
            width=int(width) if width.isdecimal() else None,
            text=next(iter(ids_of([query.get("on", "")], 1)), None),
            own=query.get("on") == "own",
        )

    def chosen(self, texts: list[Tokenization]) -> Chosen:
        text = next((text for text in texts if text.pk == self.text), None)
        return Chosen(place=self.place or None, width=self.width, text=text, own=self.own)


@dataclass(frozen=True)
class Group:
    """Points of one colour and shape."""

    name: str
    mark: Mark
    count: int


@dataclass(frozen=True)
class Missing:
    """One that was not measured on the text."""

    measured: Measured
    may_evaluate: bool


@require_safe
def pareto(request: HttpRequest) -> HttpResponse:
    looked = Looked.of(request.GET)
    saes = saes_of(looked.model) if looked.model else []
    texts = Evaluations(saes).texts()
    found = plane(saes, looked.chosen([text for text, _ in texts]))
    groups = _groups(found, looked.by)
    marks = {group.name: group.mark for group in groups}
    context: dict[str, Any] = {
        "looked": looked,
        "models": _models(),
        "places": sorted({sae.place for sae in saes}),
        "widths": sorted({sae.width for sae in saes if sae.width}),
        "texts": texts,
        "groupings": get_args(Grouping),
        "plane": found,
        "groups": groups,
        "rows": [(point, marks[group_of(point.sae, looked.by)]) for point in found.points],
        "missing": [_missing(request, each) for each in found.missing[:MAX_NAMED]],
        "more": max(0, len(found.missing) - MAX_NAMED),
        "obstacles": obstacles([point.measured for point in found.points]),
        "any_ce": any(point.ce_lost is not None for point in found.points),
        "most": MOST if len(saes) == MOST else None,
    }
    return render(request, "sae/plane.html", context)


def _missing(request: HttpRequest, measured: Measured) -> Missing:
    sae = measured.sae
    return Missing(measured, rights.may_change(request.user, sae.training or sae))


def _models() -> list[LanguageModel]:
    """Those that have an SAE."""
    trained = Q(trainings__sae__isnull=False, trainings__delete_requested_at=None)
    having = LanguageModel.objects.filter(trained | Q(imported_saes__isnull=False))
    return list(having.distinct().order_by("name"))


def _model(asked: str) -> LanguageModel | None:
    """The one the address names; else that of the newest SAE."""
    named = ids_of([asked], 1)
    found: LanguageModel | None = LanguageModel.objects.filter(pk__in=named).first()
    if found:
        return found
    newest: Sae | None = Sae.objects.visible().first()
    return newest.language_model if newest else None


def _groups(found: Plane, by: Grouping) -> list[Group]:
    """In the order of their names, so that each keeps its mark while a filter narrows by others."""
    counts = Counter(group_of(point.sae, by) for point in found.points)
    return [Group(name, mark(i), counts[name]) for i, name in enumerate(sorted(counts))]
