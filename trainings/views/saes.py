"""Every SAE that was trained here, and how good it is."""

from __future__ import annotations

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from .cards import cards, shown

PER_PAGE = 50


@require_safe
def saes(request: HttpRequest) -> HttpResponse:
    trained = shown().filter(sae__isnull=False).order_by("-sae__created_at")
    page = Paginator(trained, PER_PAGE).get_page(request.GET.get("page"))
    context = {"page": page, "cards": cards(page.object_list)}
    return render(request, "training/saes.html", context)
