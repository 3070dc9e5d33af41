"""Up to eight trainings side by side: numbers, curves, and where their configurations differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from trainings.comparison import Setting
from trainings.models import Training
from trainings.standing import Standing, standing
from workers.engine.config import sections
from workers.engine.config.fields import show

from .away import looks
from .cards import Card, cards, shown
from .pages import ids_of
from .points import CHARTS
from .sae_card import COLOURS

MOST = 8
MAX_CANDIDATES = 100
DASHES = 3
# How fast each machine was says nothing about the runs.
_COMPARED = {metric: title for metric, title in CHARTS.items() if metric != "tokens_per_second"}


@dataclass(frozen=True)
class Compared:
    """A run beside others: its card, and a line that no other has."""

    card: Card
    colour: int
    dash: int
    without: str

    @property
    def point(self) -> Standing:
        return standing(self.card.training)


@require_safe
def compare(request: HttpRequest) -> HttpResponse:
    compared = _compared(ids_compared(request))
    found = list(_settings([each.card for each in compared])) if compared else []
    everything = "all" in request.GET
    context = {
        "compared": compared,
        "settings": [each for each in found if everything or each.differs],
        "charts": _COMPARED,
        "any_ce": any(each.point.ce_lost is not None for each in compared),
        "everything": everything,
        "same": sum(not each.differs for each in found),
        "here": _address([each.card.training.pk for each in compared]),
        "candidates": _candidates(compared),
        "saes": [each.card.sae.pk for each in compared if each.card.sae],
    }
    return render(request, "training/compare.html", context)


@require_safe
def fragments(request: HttpRequest) -> HttpResponse:
    """The cells of these runs that change while they run."""
    looks(request)
    known = (ids_asked(request, "ids") + ids_asked(request, "numbers"))[:MOST]
    compared = _compared(known)
    there = {each.card.training.pk for each in compared}
    context = {"compared": compared, "gone": [pk for pk in known if pk not in there]}
    return render(request, "training/_compare_fragments.html", context)


def ids_asked(request: HttpRequest, name: str = "ids") -> list[UUID]:
    """Each id of the address once, in its order; several may stand in one parameter."""
    texts = [text for part in request.GET.getlist(name) for text in part.split(",")]
    return list(dict.fromkeys(ids_of(texts, 10 * MOST)))


def ids_compared(request: HttpRequest) -> list[UUID]:
    """As many ids of the address as are compared; the page says so where there are more."""
    asked = ids_asked(request)
    if len(asked) > MOST:
        messages.warning(request, f"At most {MOST} are compared: these are the first of them.")
    return asked[:MOST]


def _compared(asked: list[UUID]) -> list[Compared]:
    """Those that are there, in the order they were asked for."""
    rows = {run.pk: run for run in shown().filter(pk__in=asked)}
    there = [pk for pk in asked if pk in rows]
    found: list[Compared] = []
    for card in cards(rows[pk] for pk in there):
        others = [pk for pk in there if pk != card.training.pk]
        colour, dash = _line(card, {(each.colour, each.dash) for each in found})
        found.append(Compared(card, colour, dash, _address(others)))
    return found


def _line(card: Card, taken: set[tuple[int, int]]) -> tuple[int, int]:
    """The run's own colour with dashes that are free; another colour where none are."""
    own = [(card.colour, dash) for dash in range(DASHES)]
    others = [(colour, dash) for dash in range(DASHES) for colour in range(1, COLOURS + 1)]
    return next(line for line in (*own, *others) if line not in taken)


def _candidates(compared: list[Compared]) -> list[Training]:
    """What could be added, the newest first."""
    if len(compared) >= MOST:
        return []
    there = [each.card.training.pk for each in compared]
    return list(Training.objects.visible().exclude(pk__in=there)[:MAX_CANDIDATES])


def _settings(found: list[Card]) -> Iterator[Setting]:
    """Every line of the configurations, those of no meaning for a run left empty in it."""
    runs = [card.training for card in found]
    yield Setting("Source", "Model", [str(run.model) for run in runs])
    yield Setting("Source", "Dataset", [str(run.dataset) for run in runs])
    contexts = [show(run.tokenization.context_length) for run in runs]
    yield Setting("Source", "Context length", contexts)
    yield Setting("Source", "BOS", [run.tokenization.bos for run in runs])
    limits = [show(run.tokenization.max_tokens or None) or "none" for run in runs]
    yield Setting("Source", "Token limit", limits)
    yield Setting("Source", "Layer", [show(run.layers) for run in runs])
    yield Setting("Source", "Architecture", [card.architecture for card in found])
    yield Setting("Source", "Latents", [show(card.width) for card in found])
    for section, specs in sections().items():
        for spec in specs:
            values = [
                _text(run.hyperparameters.get(spec.name, spec.default), spec.automatic)
                if spec.applies_to(run.architecture)
                else "–"
                for run in runs
            ]
            if set(values) != {"–"}:
                yield Setting(section.value, spec.label, values)


def _text(value: Any, automatic: str) -> str:
    return show(value) or automatic or "automatic"


def _address(ids: list[UUID]) -> str:
    query = urlencode({"ids": ",".join(map(str, ids))}, safe=",") if ids else ""
    return reverse("compare") + (f"?{query}" if query else "")
