"""The workers on all hosts, and having one of them, or a whole host, hand over its work."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from trainings import fleet
from trainings.models import Release, Worker

from .pages import ids_of


@require_safe
def workers(request: HttpRequest) -> HttpResponse:
    return render(request, "workers/list.html", _context())


@require_safe
def hosts(request: HttpRequest) -> HttpResponse:
    """The part of the page that renews itself."""
    return render(request, "workers/_hosts.html", _context())


@require_POST
def drain(request: HttpRequest) -> HttpResponse:
    """Begin (`drain=1`) or end the draining of the workers whose ids are posted."""
    fleet.only_administrators(request.user)
    asked = Worker.objects.filter(pk__in=ids_of(request.POST.getlist("worker"), 200))
    found, wanted = list(asked), request.POST.get("drain") == "1"
    if not found:
        raise Http404
    changed = fleet.drain(found, wanted=wanted)
    if changed:
        messages.success(request, _said(changed, wanted))
    return HttpResponseRedirect(reverse("workers"))


def _said(n: int, drains: bool) -> str:
    who = "The worker" if n == 1 else f"{n} workers"
    if drains:
        does = "hands" if n == 1 else "hand"
        more = "begins" if n == 1 else "begin"
        return f"{who} {does} over what runs there, from a checkpoint, and {more} nothing more."
    return f"{who} take{'s' if n == 1 else ''} work again."


def _context() -> dict[str, object]:
    return {"hosts": fleet.hosts(), "version": Release.objects.all().current()}
