"""The activation cache: what it holds, how full it is, what had to go, and making room by hand."""

from __future__ import annotations

from datetime import UTC, datetime

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from trainings.cache import folder
from workers.engine.cache import Entry

from .pages import dialog

EVICTIONS_SHOWN = 10


def _only_administrators(request: HttpRequest) -> None:
    """What lies in the cache is everybody's."""
    if not request.user.is_superuser:
        raise PermissionDenied("The cache is everybody's: only administrators empty it.")


@require_safe
def cache(request: HttpRequest) -> HttpResponse:
    found = folder()
    entries = found.entries()
    used = sum(entry.bytes for entry in entries)
    context = {
        "limit": found.limit,
        "used": used,
        "share": min(1.0, used / found.limit) if found.limit else None,
        "entries": [(entry, _time(entry.last_used)) for entry in entries],
        "evictions": [(gone, _time(gone.at)) for gone in found.evictions()[:EVICTIONS_SHOWN]],
        "path": found.path,
    }
    return render(request, "cache/cache.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def remove(request: HttpRequest, entry_id: str) -> HttpResponse:
    """Asks first; a post deletes the entry, unless a run uses it."""
    if request.method != "POST":
        return dialog(request, "cache/_remove.html", {"entry": _entry(entry_id)})
    _only_administrators(request)
    try:
        _say_removed(request, folder().remove(entry_id))
    except KeyError:
        messages.info(request, "It was gone already.")
    except OSError as error:
        messages.error(request, f"It could not be deleted: {error.strerror}.")
    return HttpResponseRedirect(reverse("cache"))


@require_http_methods(["GET", "HEAD", "POST"])
def clear(request: HttpRequest) -> HttpResponse:
    """Asks first; a post deletes every entry that no run uses."""
    if request.method != "POST":
        entries = folder().entries()
        context = {"n_entries": len(entries), "bytes": sum(entry.bytes for entry in entries)}
        return dialog(request, "cache/_clear.html", context)
    _only_administrators(request)
    try:
        gone, kept = folder().clear()
    except OSError as error:
        messages.error(request, f"The cache could not be cleared: {error.strerror}.")
        return HttpResponseRedirect(reverse("cache"))
    if kept:
        messages.warning(request, f"{gone} removed; {kept} in use by a running training stayed.")
    else:
        messages.success(request, "The cache is empty.")
    return HttpResponseRedirect(reverse("cache"))


def _say_removed(request: HttpRequest, removed: bool) -> None:
    if removed:
        messages.success(request, "The activations were removed; the next training computes them.")
    else:
        messages.error(request, "A running training uses these activations; they were kept.")


def _entry(entry_id: str) -> Entry:
    found = next((entry for entry in folder().entries() if entry.id == entry_id), None)
    if found is None:
        raise Http404
    return found


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
