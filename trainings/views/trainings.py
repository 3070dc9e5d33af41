"""The Trainings page: all runs as cards, filtered, searched and paged by the address."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from trainings import demo
from trainings.models import Training

from .away import away, looks
from .cards import cards, shown
from .checklist import checklist
from .listing import Listing
from .pages import ids_of
from .preparing import preparing

# As many as the largest page has, and those that arrived on it since.
MAX_IDS = 200


@require_safe
def trainings(request: HttpRequest) -> HttpResponse:
    looks(request)
    listing = Listing.of(request.GET)
    page = Paginator(listing.runs(), listing.per_page).get_page(request.GET.get("page"))
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
    """The parts of the named cards that change, for htmx to put in their places.

    With `arrived`, also whole cards for runs newer than those, as far as they fit the filter; with
    `list`, also the counts beside each status, which only the list has a place for.
    """
    looks(request)
    on_list = "list" in request.GET
    known = ids_of(request.GET.get("ids", "").split(","), MAX_IDS)
    runs = {run.pk: run for run in shown().filter(pk__in=known)}
    context = {
        "cards": cards(runs.values()),
        "gone": [pk for pk in known if pk not in runs],
        "arrived": cards(_arrived(request, runs)),
        "listing": Listing.of(request.GET) if on_list else None,
        "away": away(request) if on_list else None,
    }
    return render(request, "training/_fragments.html", context)


def _arrived(request: HttpRequest, known: dict[uuid.UUID, Training]) -> QuerySet[Training]:
    """Runs that a first page drawn now would show above those it has."""
    if "arrived" not in request.GET or request.GET.get("page", "1") != "1":
        return Training.objects.none()
    listing = Listing.of(request.GET)
    if listing.sort:
        return Training.objects.none()  # where it would stand is for the next reload to say
    newer = listing.runs().exclude(pk__in=known)
    if known:
        newer = newer.filter(created_at__gte=max(run.created_at for run in known.values()))
    return newer[: listing.per_page]


@require_POST
def start_demo(request: HttpRequest) -> HttpResponse:
    try:
        demo.start()
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    else:
        messages.success(request, "The demo is being prepared; its training starts by itself.")
    return HttpResponseRedirect(reverse("trainings"))
