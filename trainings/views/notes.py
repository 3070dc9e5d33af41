"""A training's name, tags and notes, changed in its page."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_POST

from trainings.forms import NotesForm
from trainings.rights import changeable

from .cards import Card, shown
from .pages import back, in_page


@require_POST
def keep(request: HttpRequest, training_id: uuid.UUID) -> HttpResponse:
    """Keep what was written; the answer is the form, and the page's heading."""
    run = changeable(request.user, shown(), training_id)
    form = NotesForm(request.POST, instance=run)
    kept = form.is_valid()
    if kept:
        form.keep()
        run = shown().get(pk=training_id)
    if kept and not in_page(request):
        messages.success(request, "The notes are kept.")
        return back(request, reverse("training", args=[training_id]))
    context = {"card": Card(run), "notes": form, "kept": kept}
    if in_page(request):
        answer = render(request, "training/_notes.html", context, status=200 if kept else 422)
        if kept:
            answer["HX-Trigger"] = '{"announce": "The notes are saved"}'
        return answer
    fragment = {"fragment": "training/_notes.html", **context}
    return render(request, "dialog_page.html", fragment, status=422)
