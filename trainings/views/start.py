"""The Start Training dialog: fill in, see what it means, start exactly one run."""

from __future__ import annotations

import json
import uuid
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from trainings import signals, sweeps
from trainings.continuing import own_settings
from trainings.forms import StartForm, texts
from trainings.models import Rehearsal, Sae, Training
from trainings.models.transitions import Priority
from workers.engine.config import ConfigError

from .estimate import estimate, estimate_together
from .pages import dialog, go_to, in_page
from .rehearsal import Measurement

# Of the number of an attempt.
MOST_DIGITS = 9


@require_http_methods(["GET", "HEAD", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """The dialog; a post starts the run, unless something is wrong or a warning was not seen."""
    if request.method != "POST":
        return show(request, request.GET)
    form = StartForm(request.POST)
    if not form.is_valid():
        return _refused(request, form)
    if not form.accepts_warnings:
        return dialog(request, "training/_start.html", {**_context(form), "review": True})
    return _start_sweep(request, form) if form.made else _start(request, form)


def show(request: HttpRequest, filled: QueryDict) -> HttpResponse:
    """The dialog with these fields filled in."""
    return dialog(request, "training/_start.html", _context(_drawn(filled)))


@require_safe
def clone(request: HttpRequest, training_id: uuid.UUID) -> HttpResponse:
    """The dialog filled with what another run was started with, its name aside."""
    run = get_object_or_404(Training.objects.visible(), pk=training_id)
    filled = QueryDict(mutable=True)
    filled["tokenization"] = str(run.tokenization_id)
    filled["architecture"] = run.architecture
    filled["layer"] = str(run.layer)
    for name, value in run.needs.items():
        filled[name] = str(value)
    if run.started_from_id:
        filled["start_from"] = str(run.started_from_id)
    for name, text in texts(run.hyperparameters).items():
        filled[name] = text
    return show(request, filled)


@require_safe
def go_on(request: HttpRequest, sae_id: uuid.UUID) -> HttpResponse:
    """The dialog for a training that continues an SAE, with the settings that made it."""
    sae = get_object_or_404(Sae.objects.visible(), pk=sae_id)
    try:
        settings = own_settings(sae)
    except ConfigError as error:
        messages.info(request, error.problems[0].message)
        return HttpResponseRedirect(reverse("sae", args=[sae_id]))
    filled = QueryDict(mutable=True)
    filled["start_from"] = str(sae.pk)
    filled["tokenization"] = str(sae.text.pk)
    for name, text in texts(settings).items():
        filled[name] = text
    return show(request, filled)


@require_safe
def fields(request: HttpRequest) -> HttpResponse:
    """What depends on the source and the architecture: layers, hyperparameters, estimate."""
    return render(request, "training/_start_fields.html", _context(_drawn(request.GET)))


@require_safe
def check(request: HttpRequest) -> HttpResponse:
    """The server's word on what stands in the form now: errors, warnings, estimate."""
    return render(request, "training/_start_check.html", _context(StartForm(request.GET)))


@require_POST
def measure(request: HttpRequest) -> HttpResponse:
    """Have what stands in the form measured; asking twice measures once."""
    form = StartForm(request.POST)
    if form.is_valid() and form.config and form.source:
        seen = request.POST.get("seen", "")
        attempt = int(seen) if seen.isdecimal() and len(seen) <= MOST_DIGITS else 0
        Rehearsal.objects.ask(form.source, form.config, attempt)
    elif not in_page(request):
        return _refused(request, form)
    if in_page(request):
        return render(request, "training/_start_check.html", _context(form))
    # Where a reload shows the result, with everything that was typed.
    typed = request.POST.copy()
    for name in ("csrfmiddlewaretoken", "seen", "accepted"):
        typed.pop(name, None)
    return HttpResponseRedirect(f"{reverse('new_training')}?{typed.urlencode()}")


def _start(request: HttpRequest, form: StartForm) -> HttpResponse:
    assert form.config is not None
    again = Training.objects.filter(pk=form.cleaned_data["id"]).exists()
    try:
        training = Training.objects.start(
            pk=form.cleaned_data["id"],
            name=form.cleaned_data["name"],
            tokenization=form.cleaned_data["tokenization"],
            config=form.config,
            priority=form.cleaned_data["priority"] or Priority.NORMAL,
            needs=form.needs,
            owner=request.user,
        )
    except ConfigError as error:
        for problem in error.problems:
            form.add_error(problem.field if problem.field in form.fields else None, problem.message)
        return _refused(request, form)
    if not again:
        signals.started.send(Training, training=training, form=request.POST)
    if not in_page(request):
        return HttpResponseRedirect(reverse("trainings"))
    started = {"dialog:close": {}, "run:started": {"id": str(training.pk)}}
    return HttpResponse(headers={"HX-Trigger": json.dumps(started), "HX-Reswap": "none"})


def _start_sweep(request: HttpRequest, form: StartForm) -> HttpResponse:
    assert form.asked is not None
    sweep, created = sweeps.start(
        pk=form.cleaned_data["id"],
        name=form.cleaned_data["name"],
        source=form.cleaned_data["tokenization"],
        asked=form.asked,
        made=form.made,
        priority=form.cleaned_data["priority"] or Priority.NORMAL,
        needs=form.needs,
        owner=request.user,
    )
    if created:
        signals.started.send(Training, training=sweep.trainings.first(), form=request.POST)
    return go_to(request, reverse("sweep", args=[sweep.pk]))


def _refused(request: HttpRequest, form: StartForm) -> HttpResponse:
    return dialog(request, "training/_start.html", {**_context(form), "refused": True}, status=422)


def _drawn(data: QueryDict) -> StartForm:
    """A form whose layer exists in the chosen model; another model may have fewer."""
    filled = data.copy()
    filled.setdefault("id", str(uuid.uuid4()))
    form = StartForm(filled)
    if form.start:
        return form
    if form["layer"].value() not in dict(form.fields["layer"].choices):  # type: ignore[attr-defined]
        filled.pop("layer", None)
        form = StartForm(filled)
    return form


def _context(form: StartForm) -> dict[str, Any]:
    form.full_clean()
    context: dict[str, Any] = {"form": form, "estimate": None, "measurement": None}
    if form.is_valid() and form.made and form.source:
        together = [member.config for member in form.made]
        context["estimate"] = estimate_together(together, form.source)
    elif form.is_valid() and form.config and form.source:
        context["estimate"] = estimate(form.config, form.source)
        rehearsal = Rehearsal.objects.of(form.source, form.config)
        context["measurement"] = Measurement(rehearsal) if rehearsal else None
    return context
