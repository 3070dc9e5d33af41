"""Work over SAEs by HTTP: asked for, followed, and what came of it; the latents it found."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from ninja import Field, Query, Router, Schema

from saestudio.streaming import SentFile
from trainings import fetching, rights
from trainings.models import Sae, SaeJob, Tokenization
from workers.engine.config.sae_job import FORMATS
from workers.engine.features import FeatureTable, Listed, Order, UnreadableTable

from .schemas import Errors, refused

router = Router()


class JobIn(Schema):
    """`tokenization_id`: a text of the same model; without it the SAE's own."""

    tokenization_id: UUID | None = None


class TextIn(Schema):
    text: Annotated[str, Field(min_length=1, max_length=20_000)]


class ExportIn(Schema):
    format: Literal["saelens", "sparsify", "safetensors"]


class JobOut(Schema):
    """`result` holds what the job found once `status` is done; docs/formats.md names its parts."""

    id: UUID
    sae_id: UUID
    kind: Literal["evaluate", "features", "probe", "export", "import"]
    format: str
    tokenization_id: UUID
    status: Literal["pending", "running", "done", "failed"]
    progress: float
    progress_note: str
    error_message: str
    result: dict[str, Any]
    asked_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class FeatureRow(Schema):
    id: int
    frequency: float
    maximum: float
    mean: float
    peaks: list[str]
    promotes: list[str]


class FeatureRows(Schema):
    items: list[FeatureRow]
    count: int


class FeatureOut(Schema):
    """One latent; `workers/engine/features/table.py` says what each part is."""

    id: int
    frequency: float
    fired: int
    maximum: float
    mean: float
    examples: list[dict[str, Any]]
    histogram: dict[str, Any]
    promotes: list[tuple[str, float]]
    suppresses: list[tuple[str, float]]
    neighbours: list[tuple[int, float]]
    shares: list[tuple[int, float]]


@router.post("/{uuid:pk}/evaluate", response={202: JobOut, 404: Errors, 422: Errors})
def evaluate(request: HttpRequest, pk: UUID, payload: JobIn) -> Any:
    """Evaluate it in its language model. Asked twice while it is under way, it is one job."""
    return 202, _asked(request, pk, SaeJob.Kind.EVALUATE, payload.tokenization_id)


@router.post("/{uuid:pk}/collect-features", response={202: JobOut, 404: Errors, 422: Errors})
def collect_features(request: HttpRequest, pk: UUID, payload: JobIn) -> Any:
    """Find what each of its latents means."""
    return 202, _asked(request, pk, SaeJob.Kind.FEATURES, payload.tokenization_id)


@router.post("/{uuid:pk}/activations", response={202: JobOut, 404: Errors, 422: Errors})
def activations(request: HttpRequest, pk: UUID, payload: TextIn) -> Any:
    """See which latents a text activates; the job's result has them."""
    text = payload.text.replace("\x00", "")
    return 202, _asked(request, pk, SaeJob.Kind.PROBE, None, text)


@router.post("/{uuid:pk}/exports", response={202: JobOut, 404: Errors, 422: Errors})
def export(request: HttpRequest, pk: UUID, payload: ExportIn) -> Any:
    """Write it for another tool, with a model card; the job's result is the proof of it."""
    return 202, _asked(request, pk, SaeJob.Kind.EXPORT, None, format=payload.format)


@router.get("/{uuid:pk}/exports/{format}/{path:name}", response={200: None, 404: Errors})
def get_exported(request: HttpRequest, pk: UUID, format: str, name: str) -> HttpResponseBase:
    """A file of an export, by the names that its job's result has."""
    sae = _sae(pk)
    if format in FORMATS:
        fetching.demand(sae.export_path(format), newest=True)
    path = sae.exported_file(format, name)
    if path is None:
        raise Http404
    return SentFile(path, path.name)


@router.get("/{uuid:pk}/jobs", response={200: list[JobOut], 404: Errors, 422: Errors})
def list_jobs(
    request: HttpRequest, pk: UUID, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> Any:
    """Newest first."""
    return _sae(pk).jobs.all()[:limit]


@router.get("/{uuid:pk}/jobs/{uuid:job_id}", response={200: JobOut, 404: Errors})
def get_job(request: HttpRequest, pk: UUID, job_id: UUID) -> Any:
    return get_object_or_404(_sae(pk).jobs, pk=job_id)


@router.delete("/{uuid:pk}/jobs/{uuid:job_id}", response={204: None, 404: Errors, 409: Errors})
def dismiss_job(request: HttpRequest, pk: UUID, job_id: UUID) -> Any:
    """Forget a failure, and earlier ones that it stands for; an import's is tried again instead."""
    job = rights.demand_job(request.user, get_object_or_404(_sae(pk).jobs, pk=job_id))
    if not SaeJob.objects.dismiss(job):
        return refused(409, "status", "Only a failed job can be dismissed, and no import.")
    return 204, None


@router.get("/{uuid:pk}/features", response={200: FeatureRows, 404: Errors, 422: Errors})
def list_features(
    request: HttpRequest,
    pk: UUID,
    sort: Order = "frequency",
    descending: bool = True,
    token: Annotated[str, Query(max_length=100)] = "",
    by: Literal["fires", "promotes"] = "fires",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    offset: Annotated[int, Query(ge=0, le=1_000_000_000)] = 0,
) -> dict[str, Any]:
    """Latents in an order, or those that fire on `token`, or promote it, most."""
    table = _table(_sae(pk))
    rows: list[Listed]
    if token:
        rows, count = table.searched(token, by, limit=limit, offset=offset)
    else:
        rows = table.listed(sort, descending=descending, limit=limit, offset=offset)
        count = table.count
    return {"items": rows, "count": count}


@router.get("/{uuid:pk}/features/{int:latent}", response={200: FeatureOut, 404: Errors})
def get_feature(request: HttpRequest, pk: UUID, latent: int) -> Any:
    """One latent; one that never fired is not there."""
    found = _table(_sae(pk)).feature(latent)
    if found is None:
        raise Http404
    return found


@router.get("/{uuid:pk}/features.sqlite", response={200: None, 404: Errors})
def get_table(request: HttpRequest, pk: UUID) -> HttpResponseBase:
    """All of them as one SQLite file; docs/formats.md has its schema."""
    sae = _sae(pk)
    fetching.demand(sae.features_path, newest=True)
    if not sae.features_path.is_file():
        raise Http404
    return SentFile(sae.features_path, sae.features_path.name)


def _asked(
    request: HttpRequest,
    pk: UUID,
    kind: SaeJob.Kind,
    tokenization_id: UUID | None,
    text: str = "",
    format: str = "",
) -> SaeJob:
    sae = _sae(pk)
    if kind != SaeJob.Kind.PROBE:  # all others overwrite what there is
        rights.demand(request.user, sae.training or sae)
    own = Tokenization.objects.ready().filter(model=sae.language_model)
    on = get_object_or_404(own, pk=tokenization_id) if tokenization_id else sae.text
    return SaeJob.objects.ask(sae, kind, on, text=text, format=format, owner=request.user)


def _sae(pk: UUID) -> Sae:
    found: Sae = get_object_or_404(Sae.objects.visible(), pk=pk)
    return found


def _table(sae: Sae) -> FeatureTable:
    """404 where its features have not been collected."""
    fetching.demand(sae.features_path, newest=True)
    try:
        return FeatureTable(sae.features_path)
    except UnreadableTable as error:
        raise Http404(str(error)) from error
