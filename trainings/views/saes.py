"""All SAEs, trained here or taken in, how good they are, and taking in another."""

from __future__ import annotations

from uuid import UUID

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from trainings import imports, rights
from trainings.forms import ImportForm
from trainings.models import Sae, SaeJob

from .sae_card import SaeCard

PER_PAGE = 50


@require_safe
def saes(request: HttpRequest) -> HttpResponse:
    page = Paginator(Sae.objects.visible(), PER_PAGE).get_page(request.GET.get("page"))
    context = {"page": page, "saes": [SaeCard(sae) for sae in page.object_list]}
    return render(request, "sae/list.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def take_in(request: HttpRequest) -> HttpResponse:
    """The form, and what it asks for."""
    form = ImportForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        sae = imports.ask(form.cleaned_data, request.user)
        return HttpResponseRedirect(reverse("sae", args=(sae.pk,)))
    status = 422 if form.is_bound else 200
    return render(request, "sae/import.html", {"form": form}, status=status)


@require_POST
def take_in_again(request: HttpRequest, sae_id: UUID) -> HttpResponse:
    """Try once more what failed."""
    sae = _imported(request, sae_id)
    job = sae.jobs.filter(kind=SaeJob.Kind.IMPORT).first()
    if job and not sae.ready:
        imports.again(sae, job.options)
    return HttpResponseRedirect(reverse("sae", args=(sae.pk,)))


@require_POST
def remove(request: HttpRequest, sae_id: UUID) -> HttpResponse:
    imports.remove(_imported(request, sae_id))
    return HttpResponseRedirect(reverse("saes"))


def _imported(request: HttpRequest, sae_id: UUID) -> Sae:
    """One that was imported, and that this user may change."""
    rows = Sae.objects.visible().filter(training=None)
    sae: Sae = rights.demand(request.user, get_object_or_404(rows, pk=sae_id))
    return sae
