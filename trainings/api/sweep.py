"""Sweeps over HTTP: start one, see how its trainings stand, add some, stop and delete all."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any
from uuid import UUID, uuid5

from django.db.models import Prefetch
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Header, Query, Router, Status

from trainings import sweeps, wishes
from trainings.models import Sweep, Training
from trainings.rights import changeable
from trainings.standing import fvu_front, standing
from trainings.sweeps import Asked

from .schemas import (
    BulkOut,
    Errors,
    MemberOut,
    SweepIn,
    SweepMore,
    SweepOut,
    SweepPage,
    refused,
)
from .training import KEYS, given_by

router = Router()


@router.get("", response={200: SweepPage, 422: Errors})
def list_sweeps(
    request: HttpRequest,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    offset: Annotated[int, Query(ge=0, le=1_000_000_000)] = 0,
) -> dict[str, Any]:
    """The newest first; those whose trainings are all deleted are left out."""
    found = _visible()
    items = [_row(sweep, sweep.shown) for sweep in found[offset : offset + limit]]
    return {"items": items, "count": found.count()}


@router.post("", response={201: SweepOut, 200: SweepOut, 404: Errors, 409: Errors, 422: Errors})
def start_sweep(
    request: HttpRequest,
    payload: SweepIn,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> Status[Any]:
    """Queue all its trainings, or none where one of them is wrong.

    The same `Idempotency-Key` a second time starts nothing: 200 and the sweep that the first call
    started, or 409 where the first one asked for something else.
    """
    source, base, sae = given_by(payload)
    asked = Asked(base, payload.grid, payload.members)
    made = sweeps.members(asked, source, sae)
    sweep, created = sweeps.start(
        name=payload.name,
        source=source,
        asked=asked,
        made=made,
        priority=payload.priority,
        needs=payload.needs,
        owner=request.user,
        pk=uuid5(KEYS, f"{request.user.pk} {idempotency_key}") if idempotency_key else None,
    )
    # Compared as it is kept: JSON has no tuples.
    sweep.refresh_from_db()
    if not created and sweep.asked != sweeps.as_json(asked, made, source):
        return refused(409, "Idempotency-Key", "This key was used for other settings.")
    found = _visible().filter(pk=sweep.pk).first()
    if found is None:
        return refused(409, "Idempotency-Key", "The trainings of its sweep are being deleted.")
    return Status(201 if created else 200, _told(found))


@router.get("/{uuid:pk}", response={200: SweepOut, 404: Errors})
def get_sweep(request: HttpRequest, pk: UUID) -> dict[str, Any]:
    return _told(get_object_or_404(_visible(), pk=pk))


@router.post("/{uuid:pk}/trainings", response={201: list[MemberOut], 404: Errors, 422: Errors})
def add_to_sweep(request: HttpRequest, pk: UUID, payload: SweepMore) -> Status[Any]:
    """Queue more of them, with all else as the sweep began; the answer has the new ones."""
    sweep = _changeable(request, pk)
    added = sweeps.add(sweep, Asked({}, payload.grid, payload.members))
    new = {run.pk for run in added}
    everything = _told(get_object_or_404(_visible(), pk=pk))["trainings"]
    return Status(201, [each for each in everything if each["id"] in new])


@router.post("/{uuid:pk}/stop", response={200: BulkOut, 404: Errors})
def stop_sweep(request: HttpRequest, pk: UUID) -> dict[str, Any]:
    """Each saves a checkpoint and its SAE, then ends; the answer says of each what came of it."""
    ids = [run.pk for run in _changeable(request, pk).shown]
    items = wishes.act(request.user, "stop", ids)
    return {"items": items, "done": sum(item.done for item in items)}


@router.delete("/{uuid:pk}", response={202: None, 404: Errors})
def delete_sweep(request: HttpRequest, pk: UUID) -> Status[None]:
    """Delete its trainings, with every file; the sweep goes with the last of them."""
    wishes.act(request.user, "delete", [run.pk for run in _changeable(request, pk).shown])
    return Status(202, None)


def _visible() -> Any:
    runs = Training.objects.visible().select_related("sae")
    shown = Prefetch("trainings", runs, to_attr="shown")
    return Sweep.objects.visible().select_related("owner").prefetch_related(shown)


def _changeable(request: HttpRequest, pk: UUID) -> Any:
    return changeable(request.user, _visible(), pk)


def _row(sweep: Sweep, runs: list[Training]) -> dict[str, Any]:
    steps = sum(run.num_steps for run in runs)
    return {
        "id": sweep.pk,
        "name": sweep.name,
        "owner": sweep.owner.get_username() if sweep.owner else None,
        "created_at": sweep.created_at,
        "asked": sweep.asked,
        "statuses": Counter(run.status for run in runs),
        "progress": sum(run.progress * run.num_steps for run in runs) / steps,
    }


def _told(sweep: Any) -> dict[str, Any]:
    runs = sweeps.in_order(sweep.shown)
    names, front = sweeps.own_names(runs), fvu_front(runs)
    members = [_member(run, names, on_front=run.pk in front) for run in runs]
    return {**_row(sweep, runs), "trainings": members}


def _member(run: Training, names: list[str], *, on_front: bool) -> dict[str, Any]:
    place = standing(run)
    return {
        "id": run.pk,
        "name": run.name,
        "own": {name: sweeps.value_of(run, name) for name in names},
        "status": run.status,
        "shown_status": run.shown_status,
        "step": run.current_step,
        "num_steps": run.num_steps,
        "l0": place.l0,
        "fvu": place.fvu,
        "on_front": on_front,
    }
