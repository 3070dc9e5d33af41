"""The same wish for many trainings: each is its own transition, and each is reported."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from . import nudge
from .models import Training

Action = Literal["delete", "stop", "resume", "retry"]
_DONE = {
    "delete": "It and its files are being deleted.",
    "stop": "It stops, with a checkpoint and its SAE.",
    "resume": "It goes on from its newest checkpoint.",
    "retry": "It is queued again.",
}
_REFUSED = {
    "delete": "It has been deleted already.",
    "stop": "It has ended, or is stopping.",
    "resume": "Only a failed or stopped training can go on.",
    "retry": "Only a failed or stopped training can be tried again.",
}


@dataclass(frozen=True)
class Outcome:
    """What came of one training's wish."""

    id: UUID
    done: bool
    message: str


def act(action: Action, ids: Iterable[UUID], *, from_scratch: bool = False) -> list[Outcome]:
    """Do it to each of these once, in their order; those that are not there are reported too."""
    wanted = list(dict.fromkeys(ids))
    rows = Training.objects.visible().in_bulk(wanted)
    return [_outcome(action, pk, rows.get(pk), from_scratch) for pk in wanted]


def _outcome(action: Action, pk: UUID, training: Training | None, from_scratch: bool) -> Outcome:
    if training is None:
        return Outcome(pk, False, "There is no such training.")
    done = _act(action, training, from_scratch)
    return Outcome(pk, done, (_DONE if done else _REFUSED)[action])


def _act(action: Action, training: Training, from_scratch: bool) -> bool:
    rows = Training.objects
    if action == "stop":
        return rows.request_stop(training.pk)
    if action == "delete":
        done = rows.request_delete(training.pk)
        if done:
            nudge.discard(training)
        return done
    done = rows.restart(training.pk, from_scratch=from_scratch and action == "retry")
    if done:
        nudge.run(training)
    return done
