"""SAEs over HTTP: what was trained, how good it is, and its files."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from ninja import Query, Router, Schema

from saestudio.streaming import SentFile
from trainings import fetching, imports, rights
from trainings.forms import ImportForm
from trainings.models import Sae
from workers.engine.config import ConfigError, Problem
from workers.engine.config.hyperparameters import Hook

from .schemas import Errors, OriginOut

router = Router()
# The largest that a column of layers holds.
Layer = Annotated[int, Query(ge=0, le=2**31 - 1)]


class SaeOut(Schema):
    """`evaluation` was measured on the tokenization `tokenization_id`; `export` names the format.

    Of one that was trained here these are tokens held out from its training. Whether one that was
    imported was trained on them nobody knows. It has no training, the `location` it came
    from, and is `ready` once it was read and fits its model.
    """

    id: UUID
    training_id: UUID | None
    name: str
    architecture: str
    model: str
    model_id: UUID
    layer: int | None
    layers: list[int]
    hook: str
    width: int | None
    location: str
    ready: bool
    path: str
    format: str
    step: int
    tokenization_id: UUID
    evaluation: dict[str, Any]
    export: dict[str, Any]
    created_at: datetime
    started_from: OriginOut | None

    @staticmethod
    def resolve_started_from(sae: Sae) -> dict[str, Any] | None:
        return (sae.training.origin or None) if sae.training else None

    @staticmethod
    def resolve_model_id(sae: Sae) -> UUID:
        return sae.language_model.pk

    @staticmethod
    def resolve_tokenization_id(sae: Sae) -> UUID:
        return sae.text.pk

    @staticmethod
    def resolve_architecture(sae: Sae) -> str:
        return sae.training.architecture if sae.training else sae.architecture

    @staticmethod
    def resolve_model(sae: Sae) -> str:
        return sae.language_model.known_as


class SaeIn(Schema):
    """An SAE of SAELens's or sparsify's format, in a folder of this machine or on the hub.

    `tokenization_id`: a text of the model it was trained on. `layer` and `hook` only where its
    folder does not say what it reads.
    """

    source: Literal["hub", "folder"]
    location: str
    subfolder: str = ""
    revision: str = ""
    tokenization_id: UUID
    name: str = ""
    layer: int | None = None
    hook: str = ""


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
    architecture: Annotated[str, Query(max_length=100)] = "",
    layer: Layer | None = None,
    hook: Hook | None = None,
    imported: bool | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    offset: Annotated[int, Query(ge=0, le=1_000_000_000)] = 0,
) -> dict[str, Any]:
    """Newest first; `architecture` as an SAE's own field has it, `imported` from elsewhere."""
    found = _saes()
    if model_id:
        found = found.of_model(model_id)
    if architecture:
        found = found.of_architecture(architecture.replace("\x00", ""))
    if layer is not None:
        found = found.at_layer(layer)
    if hook:
        found = found.reading(hook)
    if imported is not None:
        found = found.imported(imported)
    return {"items": found[offset : offset + limit], "count": found.count()}


@router.post("", response={202: SaeOut, 422: Errors})
def import_sae(request: HttpRequest, payload: SaeIn) -> Any:
    """Take in an SAE that was trained elsewhere; it is `ready` once its job has ended."""
    told = payload.dict()
    told["tokenization"] = told.pop("tokenization_id")
    form = ImportForm({name: value for name, value in told.items() if value is not None})
    if not form.is_valid():
        raise ConfigError(
            [
                Problem("tokenization_id" if name == "tokenization" else name, str(said))
                for name, found in form.errors.items()
                for said in found
            ]
        )
    return 202, imports.ask(form.cleaned_data, request.user)


@router.delete("/{uuid:pk}", response={204: None, 404: Errors})
def delete_sae(request: HttpRequest, pk: UUID) -> Any:
    """One that was imported, with its files; a training's goes with its training."""
    rows = _saes().filter(training=None)
    imports.remove(rights.demand(request.user, get_object_or_404(rows, pk=pk)))
    return 204, None


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
    fetching.demand(folder)
    if not folder.is_dir():
        return {}
    there = sorted(folder.iterdir())
    return {path.name: path for path in there if path.is_file() and not path.is_symlink()}
