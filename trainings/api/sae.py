"""SAEs over HTTP: what was trained, how good it is, and its files."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from ninja import Query, Router, Schema

from saestudio.streaming import SentFile
from trainings.models import Sae

from .schemas import Errors

router = Router()


class SaeOut(Schema):
    """`evaluation` was measured on tokens never trained on; `export` names the files' format."""

    id: UUID
    training_id: UUID
    name: str
    architecture: str
    model: str
    layer: int
    path: str
    format: str
    step: int
    evaluation: dict[str, Any]
    export: dict[str, Any]
    created_at: datetime

    @staticmethod
    def resolve_name(sae: Sae) -> str:
        return sae.training.name

    @staticmethod
    def resolve_architecture(sae: Sae) -> str:
        return sae.training.architecture

    @staticmethod
    def resolve_model(sae: Sae) -> str:
        return sae.training.model.known_as

    @staticmethod
    def resolve_layer(sae: Sae) -> int:
        return sae.training.layer


class SaePage(Schema):
    items: list[SaeOut]
    count: int


class FileOut(Schema):
    name: str
    size_bytes: int


@router.get("", response={200: SaePage, 422: Errors})
def list_saes(
    request: HttpRequest,
    model_id: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    offset: Annotated[int, Query(ge=0, le=1_000_000_000)] = 0,
) -> dict[str, Any]:
    """Newest first."""
    found = _saes()
    if model_id:
        found = found.filter(training__model=model_id)
    return {"items": found[offset : offset + limit], "count": found.count()}


@router.get("/{uuid:pk}", response={200: SaeOut, 404: Errors})
def get_sae(request: HttpRequest, pk: UUID) -> Any:
    return get_object_or_404(_saes(), pk=pk)


@router.get("/{uuid:pk}/files", response={200: list[FileOut], 404: Errors})
def list_files(request: HttpRequest, pk: UUID) -> list[dict[str, Any]]:
    """What the tools read: weights, configuration, sparsity."""
    files = _files(get_object_or_404(_saes(), pk=pk))
    return [{"name": name, "size_bytes": path.stat().st_size} for name, path in files.items()]


@router.get("/{uuid:pk}/files/{name}", response={200: None, 404: Errors})
def get_file(request: HttpRequest, pk: UUID, name: str) -> HttpResponseBase:
    """One of them, as it lies on the disk."""
    path = _files(get_object_or_404(_saes(), pk=pk)).get(name)
    if path is None:
        raise Http404
    return SentFile(path, name)


def _saes() -> Any:
    return Sae.objects.visible()


def _files(sae: Sae) -> dict[str, Path]:
    """By name: what lies in the SAE's own folder, and is no link out of it."""
    folder = Path(sae.path)
    if not folder.is_dir():
        return {}
    there = sorted(folder.iterdir())
    return {path.name: path for path in there if path.is_file() and not path.is_symlink()}
