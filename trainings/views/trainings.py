"""The Trainings page: all runs as cards, filtered, searched and paged by the address."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from trainings import demo
from trainings.models import Training

from .cards import cards, shown
from .checklist import checklist
from .pages import ids_of
from .preparing import preparing

PER_PAGE = 20
STATUSES = ("running", "pending", "completed", "failed", "stopped")
# A page shows 20 cards; a request that names more than a few pages' worth is not ours.
MAX_IDS = 100


@require_safe
def trainings(request: HttpRequest) -> HttpResponse:
    page = Paginator(_chosen(request), PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "cards": cards(page.object_list),
        "filters": _filters(request),
        "status": request.GET.get("status", ""),
        "search": request.GET.get("q", ""),
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
    known = ids_of(request.GET.get("ids", "").split(","), MAX_IDS)
    runs = {run.pk: run for run in shown().filter(pk__in=known)}
    context = {
        "cards": cards(runs.values()),
        "gone": [pk for pk in known if pk not in runs],
        "arrived": cards(_arrived(request, runs)),
        "filters": _filters(request) if "list" in request.GET else [],
        "status": request.GET.get("status", ""),
        "search": request.GET.get("q", ""),
    }
    return render(request, "training/_fragments.html", context)


def _arrived(request: HttpRequest, known: dict[uuid.UUID, Training]) -> QuerySet[Training]:
    """Runs that a first page drawn now would show above those it has."""
    if "arrived" not in request.GET or request.GET.get("page", "1") != "1":
        return Training.objects.none()
    newer = _chosen(request).exclude(pk__in=known)
    if known:
        newer = newer.filter(created_at__gte=max(run.created_at for run in known.values()))
    return newer[:PER_PAGE]


@require_POST
def start_demo(request: HttpRequest) -> HttpResponse:
    try:
        demo.start()
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    else:
        messages.success(request, "The demo is being prepared; its training starts by itself.")
    return HttpResponseRedirect(reverse("trainings"))


def _chosen(request: HttpRequest) -> QuerySet[Training]:
    runs: QuerySet[Training] = shown()
    status, search = request.GET.get("status", ""), request.GET.get("q", "").strip()
    if status in STATUSES:
        runs = runs.filter(status=status)
    if search:
        text = Q(name__icontains=search) | Q(architecture__icontains=search)
        text |= Q(model__name__icontains=search) | Q(dataset__name__icontains=search)
        runs = runs.filter(text)
    return runs


def _filters(request: HttpRequest) -> list[dict[str, Any]]:
    """Each status with how many runs have it and the address that shows them."""
    counts = Training.objects.visible().by_status()
    here, search = request.GET.get("status", ""), request.GET.get("q", "")
    return [
        {
            "status": status,
            "word": status.capitalize() or "All",
            "count": counts.get(status, 0) if status else sum(counts.values()),
            "current": status == here,
            "search": search,
        }
        for status in ("", *STATUSES)
    ]
