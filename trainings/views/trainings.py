"""The Trainings page: all runs as cards, filtered, searched and paged by the address."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Page, Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from trainings import demo
from trainings.models import Training

from .away import away, looks
from .cards import Card, cards, shown
from .checklist import checklist
from .listing import Listing
from .pages import ids_of
from .preparing import preparing

# As many as the largest page has, and those that arrived on it since.
MAX_IDS = 200


@require_safe
def trainings(request: HttpRequest) -> HttpResponse:
    looks(request)
    listing, page = _page(request)
    context = {
        "page": page,
        "cards": cards(page.object_list),
        "listing": listing,
        "away": away(request),
        "preparing": preparing(),
        "checklist": checklist(),
    }
    return render(request, "training/list.html", context)


@require_safe
def fragments(request: HttpRequest) -> HttpResponse:
    """What changed on an open page, for htmx to put in its place.

    `ids`: runs whose every changing part is asked for; `numbers`: those of which only progress and
    key numbers are. With `arrived`, also whole cards of runs that a page drawn now would show and
    that are not among those of `known`; with `list`, the counts beside each status and what ended
    while nobody looked, which only the list has a place for.
    """
    looks(request)
    ids, light, known = (
        ids_of(request.GET.get(name, "").split(","), MAX_IDS)
        for name in ("ids", "numbers", "known")
    )
    runs = {run.pk: run for run in shown().filter(pk__in=[*ids, *light])}
    on_list = "list" in request.GET
    context = {
        "cards": cards(runs[pk] for pk in ids if pk in runs),
        "numbers": [Card(runs[pk]) for pk in light if pk in runs],
        "gone": [pk for pk in dict.fromkeys([*ids, *light]) if pk not in runs],
        "arrived": _arrived(request, set(known)) if "arrived" in request.GET else [],
        "listing": Listing.of(request.GET) if on_list else None,
        "away": away(request) if on_list else None,
    }
    return render(request, "training/_fragments.html", context)


def _page(request: HttpRequest) -> tuple[Listing, Page[Training]]:
    """What the address asks for."""
    listing = Listing.of(request.GET)
    page = Paginator(listing.runs(), listing.per_page).get_page(request.GET.get("page"))
    return listing, page


def _arrived(request: HttpRequest, known: set[uuid.UUID]) -> list[tuple[Card, str]]:
    """Cards that a page drawn now has beside those known, and where each goes, as htmx says it."""
    new, places, place = [], [], "afterbegin:#cards"
    for run in _page(request)[1].object_list:
        if run.pk not in known:
            new.append(run)
            places.append(place)
        place = f"afterend:#card-{run.pk}"
    return list(zip(cards(new), places, strict=True))


@require_POST
def start_demo(request: HttpRequest) -> HttpResponse:
    try:
        demo.start()
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    else:
        messages.success(request, "The demo is being prepared; its training starts by itself.")
    return HttpResponseRedirect(reverse("trainings"))
