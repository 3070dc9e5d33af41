"""Models, datasets and tokenizations on their way, as slim rows that renew themselves."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from trainings.models import Dataset, LanguageModel, Tokenization
from trainings.models.catalog import Prepared, Status

from .pages import in_page

KINDS: tuple[type[Prepared], ...] = (LanguageModel, Dataset, Tokenization)


@require_safe
def show(request: HttpRequest) -> HttpResponse:
    here = request.htmx.current_url_abs_path if in_page(request) else "/"  # type: ignore[attr-defined]
    return render(request, "catalog/_preparing.html", {"preparing": preparing(), "here": here})


def preparing() -> dict[str, Any]:
    """What is not ready, oldest first, and whether any of it will change by itself."""
    rows = [row for kind in KINDS for row in kind.objects.exclude(status=Status.READY)]
    rows.sort(key=lambda row: row.created_at)
    return {"rows": rows, "unfinished": any(row.status != Status.FAILED for row in rows)}
