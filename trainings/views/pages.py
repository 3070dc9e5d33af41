"""How an answer is given: as a page, as a dialog, or as fragments of a page that is open."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from itertools import islice
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.utils.http import url_has_allowed_host_and_scheme


def dialog(
    request: HttpRequest, fragment: str, context: dict[str, Any], status: int = 200
) -> HttpResponse:
    """The fragment alone for the page's dialog, or a page of its own without JavaScript."""
    if in_page(request):
        return render(request, fragment, context, status=status)
    return render(request, "dialog_page.html", {"fragment": fragment, **context}, status=status)


def in_page(request: HttpRequest) -> bool:
    return bool(getattr(request, "htmx", False))


def ids_of(texts: Iterable[str], most: int) -> list[uuid.UUID]:
    """The first so many texts as ids; what is none is left out."""
    found = []
    for text in islice(texts, most):
        try:
            found.append(uuid.UUID(text))
        except ValueError:
            continue
    return found


def whole(request: HttpRequest, name: str, default: int) -> int:
    """A whole number of the address; the default where it is none."""
    try:
        return int(request.GET.get(name, default))
    except ValueError:
        return default


def back(request: HttpRequest, default: str) -> HttpResponseRedirect:
    """To where the form says it came from, if that is one of our own pages."""
    return HttpResponseRedirect(came_from(request, request.POST, default))


def came_from(request: HttpRequest, given: QueryDict, default: str) -> str:
    """The `next` of these, if that is one of our own pages."""
    target = given.get("next") or ""
    safe = url_has_allowed_host_and_scheme(target, allowed_hosts={request.get_host()})
    return target if safe else default


def go_to(request: HttpRequest, address: str) -> HttpResponse:
    """On to another page, also from a dialog."""
    if in_page(request):
        return HttpResponse(headers={"HX-Redirect": address})
    return HttpResponseRedirect(address)
