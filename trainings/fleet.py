"""The workers by host: what each is, what it does, and why it begins nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.db.models.functions import Now
from django.utils import timezone

from . import nudge
from .models import (
    Dataset,
    LanguageModel,
    Rehearsal,
    Release,
    SaeJob,
    Tokenization,
    Training,
    Worker,
)
from .models.worker import Trainers

State = Literal["idle", "busy", "draining", "drained", "refused", "gone"]
WORDS: dict[State, str] = {
    "idle": "Idle",
    "busy": "At work",
    "draining": "Hands over",
    "drained": "Drained",
    "refused": "Begins nothing",
    "gone": "Not seen",
}
_TONES: dict[State, str] = {
    "idle": "waiting",
    "busy": "running",
    "draining": "stopped",
    "drained": "stopped",
    "refused": "warning",
    "gone": "failed",
}
_WORK: dict[type[Model], str] = {
    Training: "trains",
    Rehearsal: "measures",
    SaeJob: "works on",
    LanguageModel: "prepares",
    Dataset: "prepares",
    Tokenization: "prepares",
}


@dataclass(frozen=True)
class Member:
    """A worker as it is seen now. `does` is a verb and what it is done to, empty where nothing."""

    worker: Worker
    state: State
    does: str = ""
    training_id: UUID | None = None
    refusal: str = ""

    @property
    def word(self) -> str:
        return WORDS[self.state]

    @property
    def tone(self) -> str:
        """Icon and colour."""
        return _TONES[self.state]

    @property
    def age(self) -> float:
        """Seconds since it was seen, by the clock of the process that asks."""
        return max(0.0, (timezone.now() - self.worker.seen_at).total_seconds())

    @property
    def can_drain(self) -> bool:
        """The sweeper holds no work."""
        return self.worker.kind != Worker.Kind.SWEEPER and self.state != "gone"


@dataclass(frozen=True)
class Host:
    name: str
    members: list[Member] = field(default_factory=list)

    @property
    def drains(self) -> bool:
        """Whether all that can be drained are."""
        able = [member for member in self.members if member.can_drain]
        return bool(able) and all(member.worker.draining_since for member in able)

    @property
    def newest(self) -> Worker:
        """Whose word on the machine counts."""
        return max((member.worker for member in self.members), key=lambda worker: worker.seen_at)


def hosts() -> list[Host]:
    """Every host of which a worker was seen within a day, by name."""
    found = members()
    by_host = groupby(found, key=lambda member: member.worker.host)
    return [Host(name, list(of_host)) for name, of_host in by_host]


def members() -> list[Member]:
    """All workers by host; of those that follow each other in one place, the newest."""
    alive = set(Worker.objects.alive().values_list("pk", flat=True))
    held, version = _held(), Release.objects.all().current()
    newest: dict[tuple[str, ...], Worker] = {}
    kept: list[Worker] = []
    for worker in Worker.objects.order_by("host", "kind", "slot", "seen_at"):
        if worker.pk in alive:
            kept.append(worker)
        newest[worker.host, worker.kind, worker.slot] = worker
    kept += [worker for worker in newest.values() if worker.pk not in alive]
    kept.sort(key=lambda worker: (worker.host, _KINDS.index(worker.kind), worker.slot, worker.pid))
    return [_member(worker, worker.pk in alive, held, version) for worker in kept]


def why_waiting(training: Training, trainers: Trainers) -> str:
    """What keeps it from starting even on an idle worker; empty where nothing does."""
    needs = training.what_it_needs
    if training.status != "pending":
        return ""
    if trainers.able(needs):
        return ""
    if str(needs):
        return f"It needs {needs}, and no worker that takes work has that."
    if trainers.seen:
        return (
            "All workers that train are drained or of another version than the studio, or their "
            "artefacts would lie elsewhere."
        )
    return ""


def only_administrators(user: Any) -> None:
    """Raises `PermissionDenied` for anybody else."""
    if not user.is_superuser:
        raise PermissionDenied("Workers are everybody's: only administrators drain them.")


def drain(workers: list[Worker], *, wanted: bool) -> int:
    """Begin or end the draining of workers; how many changed."""
    pks = [worker.pk for worker in workers if worker.kind != Worker.Kind.SWEEPER]
    if wanted:
        return Worker.objects.drain(pks)
    ended = Worker.objects.end_draining(pks)
    waiting = Training.objects.claimable().in_order().first()
    if ended and waiting:
        nudge.run(waiting.pk)
    return ended


def member(worker: Worker) -> Member:
    """One of them."""
    alive = Worker.objects.alive().filter(pk=worker.pk).exists()
    return _member(worker, alive, _held(), Release.objects.all().current())


_KINDS = list(Worker.Kind.values)
# By the name of a worker: what it does, and the training if it is one.
_Held = dict[str, tuple[str, UUID | None]]


def _member(worker: Worker, alive: bool, held: _Held, version: str | None) -> Member:
    does, training_id = held.get(worker.name, ("", None)) if alive else ("", None)
    other = "" if version is None else Release.why_not(worker.version, version)
    refusal = other or worker.refusal
    state: State = "busy" if does else "idle"
    if not alive:
        state = "gone"
    elif worker.draining_since:
        state = "draining" if does else "drained"
    elif refusal and not does:
        state = "refused"
    return Member(worker, state, does, training_id, refusal)


def _held() -> _Held:
    found: _Held = {}
    for kind, verb in _WORK.items():
        for row in kind._default_manager.filter(status="running", lease_expires_at__gt=Now()):
            named: Any = row
            what = "a training" if kind is Rehearsal else str(named)
            found[named.worker] = (f"{verb} {what}", named.pk if kind is Training else None)
    return found
