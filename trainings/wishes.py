"""What users wish of trainings, of one or of many at once: the transition, and telling workers."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from . import nudge, rights, store
from .models import Sweep, Training
from .store import StoreError

logger = logging.getLogger(__name__)

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


def act(
    user: Any, action: Action, ids: Iterable[UUID], *, from_scratch: bool = False
) -> list[Outcome]:
    """Do it to each of these once, in their order, as far as the user may.

    Those that are not there are reported too.
    """
    wanted = list(dict.fromkeys(ids))
    rows = Training.objects.visible().select_related("owner").in_bulk(wanted)
    return [_outcome(user, action, pk, rows.get(pk), from_scratch) for pk in wanted]


def refusal(user: Any, action: Action, training: Training) -> str:
    """Why this user cannot do this to the run as it stands; empty where they can."""
    if not_theirs := rights.refusal(user, training):
        return not_theirs
    able = {"delete": True, "stop": training.can_stop}.get(action, training.can_restart)
    return "" if able else _REFUSED[action]


def restart(training: Training, *, from_scratch: bool) -> bool:
    """Queue it again and tell the workers. False where it neither failed nor was stopped."""
    done = Training.objects.restart(training.pk, from_scratch=from_scratch)
    if done:
        nudge.run(training.pk)
    return done


def delete(training: Training) -> bool:
    """Hide it and have its files removed. False where that was asked for already."""
    done = Training.objects.request_delete(training.pk)
    if done:
        nudge.discard(training)
    return done


def discard(pk: UUID | str) -> None:
    """Remove files and row of a deleted run that nobody writes to any more; others may, too."""
    training = Training.objects.to_discard().filter(pk=pk).first()
    if training is None:
        return
    shutil.rmtree(training.folder, onerror=unless_gone)
    try:
        store.discard(training.folder)
    except StoreError as error:
        # The row, which nobody sees any more, remembers that this is still to be done.
        logger.warning("%s is still in the store, and tried again: %s", training.name, error)
        return
    training.delete()
    Sweep.objects.discard_empty(training.sweep_id)
    logger.info("Deleted %s (%s) with its files", training.name, pk)


def unless_gone(_function: object, _path: str, error: Any) -> None:
    """For `shutil.rmtree`: what somebody else removed meanwhile is removed."""
    if not isinstance(error[1], FileNotFoundError):
        raise error[1]


def _outcome(
    user: Any, action: Action, pk: UUID, training: Training | None, from_scratch: bool
) -> Outcome:
    if training is None:
        return Outcome(pk, False, "There is no such training.")
    if not_theirs := rights.refusal(user, training):
        return Outcome(pk, False, not_theirs)
    done = _act(action, training, from_scratch)
    return Outcome(pk, done, (_DONE if done else _REFUSED)[action])


def _act(action: Action, training: Training, from_scratch: bool) -> bool:
    if action == "stop":
        return Training.objects.request_stop(training.pk)
    if action == "delete":
        return delete(training)
    return restart(training, from_scratch=from_scratch and action == "retry")
