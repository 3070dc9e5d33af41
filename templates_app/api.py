"""Training templates over HTTP: list, make, change, copy, delete, and as a file."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, cast
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from ninja import Query, Router, Schema, Status
from pydantic import Field, StrictBool

from trainings.api.schemas import Errors, Given, Text, example
from trainings.rights import changeable
from workers.engine.config import PRESETS, ConfigError, Preset

from . import exchange
from .models import TrainingTemplate
from .settings import named, settled

router = Router()


class TemplateIn(Schema):
    model_config = example(
        name="wide and sparse",
        architecture="jumprelu",
        hyperparameters={"num_steps": 50_000, "target_l0": 32},
    )

    name: str
    description: str = ""
    architecture: str = ""
    hyperparameters: Given = Field(default_factory=dict)
    is_favorite: StrictBool = False


class TemplateOut(Schema):
    id: UUID
    name: str
    description: str
    architecture: str
    hyperparameters: dict[str, Any]
    is_favorite: bool
    usage_count: int
    last_used_at: datetime | None
    created_at: datetime
    updated_at: datetime


class PresetOut(Schema):
    """`hyperparameters` has only what differs from the defaults."""

    name: str
    architecture: str
    description: str = Field(validation_alias="sentence")
    hyperparameters: dict[str, Any]


class TemplatePage(Schema):
    items: list[TemplateOut]
    count: int


class FavoriteIn(Schema):
    model_config = example(is_favorite=True)

    is_favorite: StrictBool


class ProposalOut(Schema):
    place: int
    name: str
    architecture: str
    problems: list[dict[str, str]]


class Preview(Schema):
    """What an import would make; nothing is kept."""

    templates: list[ProposalOut]
    importable: bool


@router.get("", response=TemplatePage)
def list_templates(
    request: HttpRequest,
    q: Text = "",
    is_favorite: bool | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> dict[str, Any]:
    """Favourites first, then by name."""
    found = TrainingTemplate.objects.all()
    if q:
        found = found.filter(name__icontains=q)
    if is_favorite is not None:
        found = found.filter(is_favorite=is_favorite)
    return {"items": found[offset : offset + limit], "count": found.count()}


@router.post("", response={201: TemplateOut, 422: Errors})
def create_template(request: HttpRequest, payload: TemplateIn) -> Status[Any]:
    """Keep settings under a name; hyperparameters left out take their defaults."""
    return Status(
        201, TrainingTemplate.objects.create(owner=cast(Any, request.user), **_judged(payload))
    )


@router.get("/export", response={200: None, 404: Errors})
def export_templates(request: HttpRequest, id: Annotated[list[UUID], Query()]) -> HttpResponse:
    """These templates as the file that the import reads; `id` as often as needed."""
    found = [get_object_or_404(TrainingTemplate, pk=pk) for pk in dict.fromkeys(id)]
    return HttpResponse(exchange.write(found), content_type="application/json")


@router.post("/import", response={201: list[TemplateOut], 422: Errors})
def import_templates(request: HttpRequest) -> Status[Any]:
    """All templates of an exported file (the body), or none: each fault is named."""
    return Status(201, exchange.take(request.body, request.user))


@router.post("/import/preview", response={200: Preview, 422: Errors})
def preview_import(request: HttpRequest) -> dict[str, Any]:
    """What the import of this file (the body) would make, and what is wrong with it."""
    proposals = exchange.read(request.body)
    return {
        "templates": [
            {
                "place": proposal.place,
                "name": proposal.name,
                "architecture": proposal.architecture,
                "problems": [
                    {"field": problem.field, "message": problem.message}
                    for problem in proposal.problems
                ],
            }
            for proposal in proposals
        ],
        "importable": not any(proposal.problems for proposal in proposals),
    }


@router.get("/presets", response=list[PresetOut])
def list_presets(request: HttpRequest) -> list[Preset]:
    """Recipes that come with the studio; `description` says what each was measured to give."""
    return list(PRESETS.values())


@router.get("/{uuid:pk}", response={200: TemplateOut, 404: Errors})
def get_template(request: HttpRequest, pk: UUID) -> TrainingTemplate:
    return get_object_or_404(TrainingTemplate, pk=pk)


@router.put("/{uuid:pk}", response={200: TemplateOut, 404: Errors, 422: Errors})
def replace_template(request: HttpRequest, pk: UUID, payload: TemplateIn) -> TrainingTemplate:
    """Everything but its use is as given."""
    template: TrainingTemplate = changeable(request.user, TrainingTemplate.objects.all(), pk)
    for name, value in _judged(payload).items():
        setattr(template, name, value)
    template.save()
    return template


@router.delete("/{uuid:pk}", response={204: None, 404: Errors})
def delete_template(request: HttpRequest, pk: UUID) -> Status[None]:
    changeable(request.user, TrainingTemplate.objects.all(), pk).delete()
    return Status(204, None)


@router.post("/{uuid:pk}/favorite", response={200: TemplateOut, 404: Errors})
def favor_template(request: HttpRequest, pk: UUID, payload: FavoriteIn) -> TrainingTemplate:
    """Favourites stand first."""
    TrainingTemplate.objects.filter(pk=pk).update(is_favorite=payload.is_favorite)
    return get_object_or_404(TrainingTemplate, pk=pk)


@router.post("/{uuid:pk}/duplicate", response={201: TemplateOut, 404: Errors})
def duplicate_template(request: HttpRequest, pk: UUID) -> Status[Any]:
    """A copy under a free name."""
    return Status(201, get_object_or_404(TrainingTemplate, pk=pk).duplicate(request.user))


def _judged(payload: TemplateIn) -> dict[str, Any]:
    """The columns. Raises `ConfigError` with every field that is wrong."""
    faults = named(payload.name, payload.description)
    try:
        hyperparameters = settled(payload.architecture, payload.hyperparameters)
    except ConfigError as error:
        raise ConfigError([*faults, *error.problems]) from error
    if faults:
        raise ConfigError(faults)
    return {
        **payload.model_dump(),
        "name": payload.name.strip(),
        "hyperparameters": hyperparameters,
    }
