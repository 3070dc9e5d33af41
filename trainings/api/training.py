"""Trainings over HTTP: list, start, look, stop, go on, delete."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal
from uuid import UUID, uuid5

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Header, Query, Router, Status

from trainings import wishes
from trainings.continuing import settled
from trainings.models import Checkpoint, Sae, Tag, Tokenization, Training, TrainingMetric
from trainings.models.tag import tidy
from trainings.models.transitions import Status as State
from trainings.rights import changeable
from trainings.views.estimate import estimate
from trainings.views.listing import SORT_WORDS, Listing
from trainings.views.points import telling_steps
from workers.engine.config import (
    Architecture,
    ConfigError,
    Problem,
    TrainingConfig,
    check,
    warnings,
)

from .schemas import (
    BulkIn,
    BulkOut,
    CheckpointIn,
    CheckpointOut,
    Errors,
    EstimateIn,
    EstimateOut,
    MetricOut,
    QueueItem,
    RetryIn,
    Text,
    TrainingChange,
    TrainingIn,
    TrainingOut,
    TrainingPage,
    refused,
)

router = Router()
Limit = Annotated[int, Query(ge=1, le=10_000)]
# Of the ids that follow from a caller's idempotency keys.
KEYS = UUID("6f1f3c1e-3d5b-5f0a-9a55-2f5d0d5a7c11")
Sort = Literal["newest", "oldest", "name", "fvu", "l0", "loss", "dead", "ended"]
assert set(Sort.__args__) == set(SORT_WORDS)  # type: ignore[attr-defined]


@router.get("", response={200: TrainingPage, 422: Errors})
def list_trainings(
    request: HttpRequest,
    status: State | None = None,
    tag: Text = "",
    q: Text = "",
    model_id: UUID | None = None,
    architecture: Architecture | None = None,
    sweep_id: UUID | None = None,
    sort: Sort = "newest",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    offset: Annotated[int, Query(ge=0, le=1_000_000_000)] = 0,
) -> dict[str, Any]:
    """All that fit, the newest first; `q` is looked for in name, model, dataset and notes."""
    listing = Listing(
        status=status.value if status else "",
        search=q.strip(),
        tag=tidy(tag),
        sort=SORT_WORDS[sort],
    )
    found = listing.runs()
    if model_id:
        found = found.filter(model=model_id)
    if architecture:
        found = found.filter(architecture=architecture.value)
    if sweep_id:
        found = found.filter(sweep=sweep_id)
    return {"items": found[offset : offset + limit], "count": found.count()}


@router.post(
    "", response={201: TrainingOut, 200: TrainingOut, 404: Errors, 409: Errors, 422: Errors}
)
def start_training(
    request: HttpRequest,
    payload: TrainingIn,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> Status[Any]:
    """Queue a training; hyperparameters left out take their defaults.

    The same `Idempotency-Key` a second time starts nothing: 200 and the training that the first
    call started, or 409 where the first one asked for something else.
    """
    tokenization, config = _asked(payload)
    pk = uuid5(KEYS, f"{request.user.pk} {idempotency_key}") if idempotency_key else None
    again = Training.objects.filter(pk=pk).first() if pk else None
    training = again or Training.objects.start(
        name=payload.name,
        tokenization=tokenization,
        config=config,
        priority=payload.priority,
        needs=payload.needs,
        owner=request.user,
        pk=pk,
    )
    # Also where another call with the key has just come between.
    training.refresh_from_db()
    if (training.tokenization_id, training.config) != (tokenization.pk, config):
        return refused(409, "Idempotency-Key", "This key was used for other settings.")
    if training.delete_requested_at:
        return refused(409, "Idempotency-Key", "Its training is being deleted.")
    return Status(200 if again else 201, training)


@router.post("/estimate", response={200: EstimateOut, 404: Errors, 422: Errors})
def estimate_training(request: HttpRequest, payload: EstimateIn) -> dict[str, Any]:
    """What such a training would need, and what to think of first; nothing is started."""
    tokenization, config = _asked(payload)
    facts = tokenization.model.facts
    found = estimate(config, tokenization)
    if facts is None or found is None:
        raise ConfigError([Problem("tokenization_id", f"{tokenization.model} is not ready yet.")])
    if wrong := check(config, facts):
        raise ConfigError(wrong)
    return {
        **asdict(found),
        "memory_bytes": found.memory_bytes,
        "passes": found.passes,
        "warnings": [asdict(warning) for warning in warnings(config, facts, tokenization.n_tokens)],
    }


@router.post("/bulk", response={200: BulkOut})
def do_to_many(request: HttpRequest, payload: BulkIn) -> dict[str, Any]:
    """The same to many trainings, each on its own; the answer says of each what came of it."""
    items = wishes.act(request.user, payload.action, payload.ids, from_scratch=payload.from_scratch)
    return {"items": items, "done": sum(item.done for item in items)}


@router.get("/{uuid:pk}", response={200: TrainingOut, 404: Errors})
def get_training(request: HttpRequest, pk: UUID) -> Training:
    return _training(pk)


@router.patch("/{uuid:pk}", response={200: TrainingOut, 404: Errors})
def change_training(request: HttpRequest, pk: UUID, payload: TrainingChange) -> Training:
    """Another name, notes, tags, or place in the queue; a run that runs takes that one later."""
    training = _changeable(request, pk)
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
    wishes.delete(_changeable(request, pk))
    return Status(202, None)


@router.post("/{uuid:pk}/stop", response={200: TrainingOut, 404: Errors, 409: Errors})
def stop_training(request: HttpRequest, pk: UUID) -> Any:
    """Save a checkpoint and the SAE, then end."""
    won = Training.objects.visible().request_stop(_changeable(request, pk).pk)
    return _training(pk) if won else _conflict(pk, "stopped")


@router.post("/{uuid:pk}/resume", response={200: TrainingOut, 404: Errors, 409: Errors})
def resume_training(request: HttpRequest, pk: UUID) -> Any:
    """Go on from the newest checkpoint."""
    return _restart(request, pk, from_scratch=False)


@router.post("/{uuid:pk}/retry", response={200: TrainingOut, 404: Errors, 409: Errors})
def retry_training(request: HttpRequest, pk: UUID, payload: RetryIn | None = None) -> Any:
    """Try again, from the newest checkpoint or from step 0."""
    return _restart(request, pk, from_scratch=bool(payload and payload.from_scratch))


@router.get("/{uuid:pk}/metrics", response={200: list[MetricOut], 404: Errors})
def list_metrics(
    request: HttpRequest,
    pk: UUID,
    after_step: Annotated[int, Query(ge=-1, le=2**31 - 1)] = -1,
    limit: Limit = 10_000,
    max_points: Annotated[int, Query(ge=4, le=10_000)] | None = None,
) -> list[TrainingMetric]:
    """Points in the order of their steps, after one of them.

    `max_points` thins a long run: the first and last point and the extremes of its loss between
    them, so that no spike is lost.
    """
    points = _training(pk).metrics.filter(step__gt=after_step)
    if max_points is not None:
        points = points.filter(step__in=telling_steps(points, max_points))
    return list(points[:limit])


@router.get("/{uuid:pk}/checkpoints", response={200: list[CheckpointOut], 404: Errors})
def list_checkpoints(request: HttpRequest, pk: UUID) -> Any:
    """Newest first."""
    return _training(pk).checkpoints.all()


@router.patch(
    "/{uuid:pk}/checkpoints/{uuid:checkpoint_id}", response={200: CheckpointOut, 404: Errors}
)
def pin_checkpoint(
    request: HttpRequest, pk: UUID, checkpoint_id: UUID, payload: CheckpointIn
) -> Checkpoint:
    """Pinned ones are kept; of the others the newest three and the one of the lowest FVU."""
    checkpoint: Checkpoint = get_object_or_404(
        _changeable(request, pk).checkpoints, pk=checkpoint_id
    )
    Checkpoint.objects.filter(pk=checkpoint.pk).update(pinned=payload.pinned)
    found: Checkpoint = get_object_or_404(Checkpoint, pk=checkpoint.pk)  # unless it went meanwhile
    return found


def _asked(payload: EstimateIn) -> tuple[Tokenization, TrainingConfig]:
    """Raises Http404 for a tokenization that is not there, `ConfigError` for each bad value."""
    tokenization, given, sae = given_by(payload)
    return tokenization, settled(given, tokenization, sae)


def given_by(payload: EstimateIn) -> tuple[Tokenization, dict[str, Any], Sae | None]:
    """The text, what `settled` takes, and the SAE it continues. Raises as `_asked` does."""
    rows = Tokenization.objects.select_related("model", "dataset")
    tokenization = get_object_or_404(rows, pk=payload.tokenization_id)
    given = payload.model_dump(include={"architecture", "layer", "hyperparameters"})
    sae = Sae.objects.to_continue(payload.start_from) if payload.start_from else None
    return tokenization, given, sae


def _visible() -> Any:
    return Training.objects.visible().select_related("owner").prefetch_related("tags")


def _training(pk: UUID) -> Training:
    found: Training = get_object_or_404(_visible(), pk=pk)
    return found


def _changeable(request: HttpRequest, pk: UUID) -> Training:
    found: Training = changeable(request.user, _visible(), pk)
    return found


def _restart(request: HttpRequest, pk: UUID, *, from_scratch: bool) -> Any:
    if not wishes.restart(_changeable(request, pk), from_scratch=from_scratch):
        return _conflict(pk, "started again")
    return _training(pk)


def _conflict(pk: UUID, wish: str) -> Status[Any]:
    state = _training(pk).shown_status
    return refused(409, "status", f"This training is {state}; it cannot be {wish}.")
