"""Trainings over HTTP: list, start, look, stop, go on, delete."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Query, Router, Status
from pydantic import ValidationError

from trainings import wishes
from trainings.models import Checkpoint, Tag, Tokenization, Training, TrainingMetric
from trainings.models.tag import tidy
from workers.engine.config import ConfigError, TrainingConfig, problems

from .schemas import (
    BulkIn,
    BulkOut,
    CheckpointIn,
    CheckpointOut,
    Errors,
    MetricOut,
    QueueItem,
    RetryIn,
    TrainingChange,
    TrainingIn,
    TrainingOut,
    TrainingPage,
)

router = Router()
Limit = Annotated[int, Query(ge=1, le=10_000)]


@router.get("", response=TrainingPage)
def list_trainings(
    request: HttpRequest,
    status: str | None = None,
    tag: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> dict[str, Any]:
    """Newest first."""
    found = Training.objects.visible().prefetch_related("tags")
    if tag:
        found = found.filter(tags__name=tidy(tag))
    if status:
        found = found.filter(status=status)
    return {"items": found[offset : offset + limit], "count": found.count()}


@router.post("", response={201: TrainingOut, 422: Errors})
def start_training(request: HttpRequest, payload: TrainingIn) -> Status[Any]:
    """Queue a training; hyperparameters left out take their defaults."""
    tokenization = get_object_or_404(
        Tokenization.objects.select_related("model", "dataset"), pk=payload.tokenization_id
    )
    try:
        config = TrainingConfig.model_validate(
            payload.model_dump(include={"architecture", "layer", "hyperparameters"})
        )
    except ValidationError as error:
        raise ConfigError(problems(error)) from error
    training = Training.objects.start(
        name=payload.name,
        tokenization=tokenization,
        config=config,
        priority=payload.priority,
    )
    training.refresh_from_db()
    return Status(201, training)


@router.post("/bulk", response={200: BulkOut})
def do_to_many(request: HttpRequest, payload: BulkIn) -> dict[str, Any]:
    """The same to many trainings, each on its own; the answer says of each what came of it."""
    items = wishes.act(payload.action, payload.ids, from_scratch=payload.from_scratch)
    return {"items": items, "done": sum(item.done for item in items)}


@router.get("/{uuid:pk}", response={200: TrainingOut, 404: Errors})
def get_training(request: HttpRequest, pk: UUID) -> Training:
    return _training(pk)


@router.patch("/{uuid:pk}", response={200: TrainingOut, 404: Errors})
def change_training(request: HttpRequest, pk: UUID, payload: TrainingChange) -> Training:
    """Another name, notes, tags, or place in the queue; a run that runs takes that one later."""
    training = _training(pk)
    words = payload.model_dump(include={"name", "notes"}, exclude_none=True)
    if words:
        Training.objects.filter(pk=pk).update(**words)
    if payload.tags is not None:
        Tag.objects.give(training, payload.tags)
    if payload.priority is not None:
        Training.objects.prioritize(pk, payload.priority)
    return _training(pk)


@router.get("/queue", response=list[QueueItem])
def list_queue(request: HttpRequest) -> list[dict[str, Any]]:
    """Those that wait, in the order in which they start; `ahead` counts running ones, too."""
    return [{"id": pk, "ahead": place.ahead} for pk, place in Training.objects.places().items()]


@router.delete("/{uuid:pk}", response={202: None, 404: Errors})
def delete_training(request: HttpRequest, pk: UUID) -> Status[None]:
    """Stop it if it runs, then remove the row and every file."""
    wishes.delete(_training(pk))
    return Status(202, None)


@router.post("/{uuid:pk}/stop", response={200: TrainingOut, 404: Errors, 409: Errors})
def stop_training(request: HttpRequest, pk: UUID) -> Any:
    """Save a checkpoint and the SAE, then end."""
    won = Training.objects.visible().request_stop(_training(pk).pk)
    return _training(pk) if won else _conflict(pk, "stopped")


@router.post("/{uuid:pk}/resume", response={200: TrainingOut, 404: Errors, 409: Errors})
def resume_training(request: HttpRequest, pk: UUID) -> Any:
    """Go on from the newest checkpoint."""
    return _restart(pk, from_scratch=False)


@router.post("/{uuid:pk}/retry", response={200: TrainingOut, 404: Errors, 409: Errors})
def retry_training(request: HttpRequest, pk: UUID, payload: RetryIn | None = None) -> Any:
    """Try again, from the newest checkpoint or from step 0."""
    return _restart(pk, from_scratch=bool(payload and payload.from_scratch))


@router.get("/{uuid:pk}/metrics", response={200: list[MetricOut], 404: Errors})
def list_metrics(
    request: HttpRequest, pk: UUID, after_step: int = -1, limit: Limit = 10_000
) -> QuerySet[TrainingMetric]:
    """Points in the order of their steps."""
    return _training(pk).metrics.filter(step__gt=after_step)[:limit]


@router.get("/{uuid:pk}/checkpoints", response={200: list[CheckpointOut], 404: Errors})
def list_checkpoints(request: HttpRequest, pk: UUID) -> QuerySet[Checkpoint]:
    """Newest first."""
    return _training(pk).checkpoints.all()


@router.patch(
    "/{uuid:pk}/checkpoints/{uuid:checkpoint_id}", response={200: CheckpointOut, 404: Errors}
)
def pin_checkpoint(
    request: HttpRequest, pk: UUID, checkpoint_id: UUID, payload: CheckpointIn
) -> Checkpoint:
    """Pinned ones are kept; of the others the newest three and the one of the lowest FVU."""
    checkpoint: Checkpoint = get_object_or_404(_training(pk).checkpoints, pk=checkpoint_id)
    checkpoint.pinned = payload.pinned
    checkpoint.save(update_fields=["pinned"])
    return checkpoint


def _training(pk: UUID) -> Training:
    found: Training = get_object_or_404(Training.objects.visible(), pk=pk)
    return found


def _restart(pk: UUID, *, from_scratch: bool) -> Any:
    if not wishes.restart(_training(pk), from_scratch=from_scratch):
        return _conflict(pk, "started again")
    return _training(pk)


def _conflict(pk: UUID, wish: str) -> Status[Any]:
    state = _training(pk).shown_status
    message = f"This training is {state}; it cannot be {wish}."
    return Status(409, {"errors": [{"field": "status", "message": message}]})
