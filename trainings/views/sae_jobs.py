"""Asking for work over an SAE, and how far it is."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from trainings import rights
from trainings.models import Sae, SaeJob, Tokenization
from workers.engine.config.sae_job import FORMATS

from .pages import back, ids_of
from .sae import shown_jobs

MAX_TEXT = 20_000


@require_POST
def evaluate(request: HttpRequest, sae_id: UUID) -> HttpResponse:
    return _asked(request, sae_id, SaeJob.Kind.EVALUATE, "scorecard")


@require_POST
def collect(request: HttpRequest, sae_id: UUID) -> HttpResponse:
    return _asked(request, sae_id, SaeJob.Kind.FEATURES, "features")


@require_POST
def export(request: HttpRequest, sae_id: UUID) -> HttpResponse:
    """Write it for another tool."""
    format = request.POST.get("format", "")
    return _asked(request, sae_id, SaeJob.Kind.EXPORT, "use", format)


@require_POST
def dismiss(request: HttpRequest, sae_id: UUID) -> HttpResponse:
    """Take a failure off the page."""
    sae = get_object_or_404(Sae.objects.visible(), pk=sae_id)
    job = get_object_or_404(sae.jobs, pk__in=ids_of([request.POST.get("job", "")], 1))
    SaeJob.objects.dismiss(rights.demand_job(request.user, job))
    return HttpResponseRedirect(_address(sae_id))


@require_POST
def read_text(request: HttpRequest, sae_id: UUID) -> HttpResponse:
    """See which latents a text activates."""
    sae = get_object_or_404(Sae.objects.visible(), pk=sae_id)
    # A form sends its line ends as two characters, which no text has that a model was trained on.
    text = request.POST.get("text", "").replace("\r\n", "\n").replace("\x00", "")
    if not text.strip() or len(text) > MAX_TEXT:
        messages.error(request, f"Type a text of at most {MAX_TEXT:,} characters.")
        return HttpResponseRedirect(f"{_address(sae_id)}#text")
    job = SaeJob.objects.ask(sae, SaeJob.Kind.PROBE, sae.text, text=text, owner=request.user)
    return HttpResponseRedirect(f"{_address(sae_id)}?text={job.pk}#text")


@require_safe
def jobs(request: HttpRequest, sae_id: UUID) -> HttpResponse:
    """What is under way. Once one of those that the page shows has ended, its parts are due."""
    sae = get_object_or_404(Sae.objects.visible(), pk=sae_id)
    found = shown_jobs(sae)
    shown = set(ids_of(request.GET.get("shown", "").split(","), 50))
    running = [job for job in found if job.under_way]
    context = {"sae": sae, "jobs": found, "running": running}
    context["may_change"] = rights.may_change(request.user, sae.training or sae)
    response = render(request, "sae/_jobs.html", context)
    if ended := shown - {job.pk for job in running}:
        # One that was taken in has parts that its page does not have yet.
        taken_in = sae.jobs.filter(pk__in=ended, kind=SaeJob.Kind.IMPORT).exists()
        name, value = ("HX-Refresh", "true") if taken_in else ("HX-Trigger", "sae:changed")
        response[name] = value
    return response


def _asked(
    request: HttpRequest, sae_id: UUID, kind: SaeJob.Kind, panel: str, format: str = ""
) -> HttpResponse:
    sae = get_object_or_404(Sae.objects.visible(), pk=sae_id)
    rights.demand(request.user, sae.training or sae)
    if kind == SaeJob.Kind.EXPORT and format not in FORMATS:
        messages.error(request, f"Choose one of {', '.join(FORMATS)}.")
        return HttpResponseRedirect(f"{_address(sae_id)}#{panel}")
    SaeJob.objects.ask(sae, kind, _text(request, sae), format=format, owner=request.user)
    return back(request, f"{_address(sae_id)}#{panel}")


def _text(request: HttpRequest, sae: Sae) -> Tokenization:
    """The one that was chosen, if it is of the same model; else the SAE's own."""
    asked = ids_of([request.POST.get("tokenization", "")], 1)
    if not asked:
        return sae.text
    own = Tokenization.objects.ready().filter(model=sae.language_model)
    found: Tokenization = get_object_or_404(own, pk=asked[0])
    return found


def _address(sae_id: UUID) -> str:
    return reverse("sae", args=(sae_id,))
