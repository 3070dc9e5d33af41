"""One SAE: what it is worth, what its latents mean, and how other tools read it."""

from __future__ import annotations

from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from trainings import fetching, rights
from trainings.evaluations import Evaluations
from trainings.models import Sae, SaeJob, Tokenization
from trainings.scorecard import scorecard
from workers.engine.features import FeatureTable, UnreadableTable

from .density import density
from .exports import exports
from .feature import Shown
from .feature_list import FeaturePage, listed
from .pages import ids_of
from .sae_card import SaeCard, table_of
from .text import TextRead, text_read


@require_safe
def sae(request: HttpRequest, sae_id: UUID) -> HttpResponse:
    found = get_object_or_404(Sae.objects.visible(), pk=sae_id)
    shown = SaeCard(found)
    jobs = shown_jobs(found)
    context = {
        "shown": shown,
        "sae": found,
        "groups": scorecard(found.evaluation),
        "density": density(found),
        "on_which": ", on tokens held out from its training" if found.training else "",
        "may_change": rights.may_change(request.user, found.training or found),
        "texts": Tokenization.objects.ready().filter(model=found.language_model),
        "jobs": jobs,
        "running": [job for job in jobs if job.under_way],
        "listed": _listed(request, shown),
        "read": _read(request, found),
        "others": Evaluations([found]).elsewhere(found),
        "exports": exports(found),
        "collecting": any(j.under_way and j.kind == SaeJob.Kind.FEATURES for j in jobs),
        "evaluating": any(j.under_way and j.kind == SaeJob.Kind.EVALUATE for j in jobs),
    }
    return render(request, "sae/detail.html", context)


@require_safe
def feature(request: HttpRequest, sae_id: UUID, latent: int) -> HttpResponse:
    """All that is known of one latent."""
    found = get_object_or_404(Sae.objects.visible(), pk=sae_id)
    fetching.demand(found.features_path, newest=True)
    try:
        table = FeatureTable(found.features_path)
        known = table.feature(latent)
        others = table.some(i for i, _ in known.neighbours) if known else {}
    except UnreadableTable as error:
        raise Http404(str(error)) from error
    if known is None:
        raise Http404
    context = {
        "sae": found,
        "shown": SaeCard(found),
        "feature": Shown(known, others),
        "about": table.about,
    }
    return render(request, "sae/feature.html", context)


def _listed(request: HttpRequest, shown: SaeCard) -> FeaturePage | None:
    """None where there is no table, or one that is damaged: it is collected again, then."""
    try:
        return listed(request, shown.table) if shown.table else None
    except UnreadableTable:
        return None


def shown_jobs(sae: Sae) -> list[SaeJob]:
    """What is under way, and the newest failure of each kind that nothing has mended since."""
    shown, known = [], set()
    jobs = sae.jobs.select_related("tokenization__dataset", "tokenization__model")
    # What a probe found is as long as its text, and this is asked for every second.
    for job in jobs.defer("result", "text")[:50]:
        # A failed text is mended by trying any other.
        subject = job.kind if job.kind == SaeJob.Kind.PROBE else job.key
        failed = job.status == SaeJob.Status.FAILED and subject not in known
        known.add(subject)
        if job.under_way or failed:
            shown.append(job)
    return shown


def _read(request: HttpRequest, sae: Sae) -> TextRead | None:
    """The text that the address names."""
    asked = ids_of([request.GET.get("text", "")], 1)
    job = sae.jobs.filter(pk=asked[0], kind=SaeJob.Kind.PROBE).first() if asked else None
    return text_read(job, table_of(sae)) if job else None
