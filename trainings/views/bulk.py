"""The same to many trainings: a dialog that says what would happen to each, then one request."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, cast, get_args
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from trainings import wishes
from trainings.models import Training
from trainings.models.transitions import Status
from trainings.wishes import Action

from .cards import changed
from .pages import came_from, dialog, go_to, ids_of, in_page

MOST = 500
TITLES: dict[Action, str] = {
    "delete": "Delete trainings",
    "retry": "Retry trainings",
    "resume": "Resume trainings",
    "stop": "Stop trainings",
}
DONE: dict[Action, str] = {
    "delete": "being deleted with their files",
    "retry": "queued again",
    "resume": "queued again",
    "stop": "stopping",
}
# Whole groups that a wish makes sense for, where no card is chosen.
GROUPS: dict[Action, tuple[Status, ...]] = {
    "delete": (Status.FAILED, Status.STOPPED, Status.COMPLETED),
    "retry": (Status.FAILED, Status.STOPPED),
    "resume": (Status.STOPPED, Status.FAILED),
    "stop": (Status.PENDING, Status.RUNNING),
}


@dataclass(frozen=True)
class Choice:
    """A chosen run and why it is left as it is; empty if it is not."""

    training: Training
    refused: str


@require_http_methods(["GET", "HEAD", "POST"])
def bulk(request: HttpRequest) -> HttpResponse:
    """Asks, with the runs named; a post does it and reports."""
    given = request.POST if request.method == "POST" else request.GET
    if given.get("action") not in get_args(Action):
        return HttpResponseBadRequest(f"action must be one of {', '.join(get_args(Action))}")
    action = cast(Action, given["action"])
    if request.method == "POST":
        return _do(request, action, ids_of(given.getlist("ids"), MOST))
    return dialog(request, "training/_bulk.html", _asked(request, action))


def _asked(request: HttpRequest, action: Action) -> dict[str, Any]:
    ids, group = ids_of(request.GET.getlist("ids"), MOST), request.GET.get("status", "")
    runs = Training.objects.visible().select_related("owner")
    if group in GROUPS[action]:
        runs = runs.filter(status=group)
    elif not ids and (sweep := ids_of([request.GET.get("sweep", "")], 1)):
        # On a sweep's page: all of it, where no row is chosen.
        runs = runs.filter(sweep__in=sweep)
    else:
        runs = runs.filter(pk__in=ids)
    chosen = [Choice(run, wishes.refusal(request.user, action, run)) for run in runs[:MOST]]
    counts = Training.objects.visible().by_status()
    return {
        "action": action,
        "next": came_from(request, request.GET, reverse("trainings")),
        "title": TITLES[action],
        "chosen": chosen,
        "able": sum(not choice.refused for choice in chosen),
        "groups": [(status, counts[status]) for status in GROUPS[action] if status in counts],
    }


def _do(request: HttpRequest, action: Action, ids: list[UUID]) -> HttpResponse:
    scratch = request.POST.get("from") == "scratch"
    found = wishes.act(request.user, action, ids, from_scratch=scratch)
    done = sum(outcome.done for outcome in found)
    if done:
        messages.success(request, f"{done} training{'s' * (done > 1)} {DONE[action]}.")
    reasons = Counter(outcome.message for outcome in found if not outcome.done)
    for reason, count in reasons.items():
        messages.info(request, f"{count} left as {'they are' if count > 1 else 'it is'}: {reason}")
    here = came_from(request, request.POST, reverse("trainings"))
    # The list changes its cards where they stand; another page is drawn anew.
    if in_page(request) and here == reverse("trainings"):
        return changed(request, ids)
    return go_to(request, here)
