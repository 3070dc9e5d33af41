"""The workers over HTTP: who there is, what each does, and draining one."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Router, Schema
from pydantic import StrictBool

from trainings import fleet
from trainings.models import Worker

from .schemas import Errors, example

router = Router()


class GpuOut(Schema):
    name: str
    uuid: str
    memory_used: int
    memory_total: int


class WorkerOut(Schema):
    """A process that works, as it was last seen. Bytes; `memory_…` are of its host.

    `state`: idle, busy, draining (hands over what it does), drained, refused (of another version
    than the studio, or its artefacts would lie elsewhere: see `refusal`), gone (not seen for a
    minute).
    """

    id: UUID
    kind: str
    host: str
    slot: str
    pid: int
    version: str
    state: fleet.State
    does: str
    training_id: UUID | None
    refusal: str
    gpus: list[GpuOut]
    cores: int
    memory_total: int
    memory_available: int
    started_at: datetime
    seen_at: datetime
    draining_since: datetime | None


class WorkerChange(Schema):
    model_config = example(draining=True)

    draining: StrictBool


@router.get("", response=list[WorkerOut])
def list_workers(request: HttpRequest) -> list[dict[str, Any]]:
    """By host. Those that were not seen for a day are forgotten."""
    return [_out(member) for member in fleet.members()]


@router.patch("/{uuid:pk}", response={200: WorkerOut, 403: Errors, 404: Errors})
def change_worker(request: HttpRequest, pk: UUID, payload: WorkerChange) -> dict[str, Any]:
    """Drain it: what it does is handed over from a checkpoint, and it begins nothing more.

    Administrators only. Who follows it in its place drains, too, until this is ended.
    """
    fleet.only_administrators(request.user)
    worker = get_object_or_404(Worker, pk=pk)
    fleet.drain([worker], wanted=payload.draining)
    worker.refresh_from_db()
    return _out(fleet.member(worker))


def told(member: fleet.Member) -> dict[str, Any]:
    """As a command prints it."""
    found: dict[str, Any] = WorkerOut(**_out(member)).model_dump(mode="json")
    return found


def _out(member: fleet.Member) -> dict[str, Any]:
    own = ("state", "does", "training_id", "refusal")
    names = [name for name in WorkerOut.model_fields if name not in own]
    worker = {name: getattr(member.worker, name) for name in names}
    return worker | {name: getattr(member, name) for name in own}
