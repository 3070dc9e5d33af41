"""A training on the console while it runs."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import CommandError

from trainings.models import Training
from trainings.models.transitions import Status
from workers.engine.events import in_words

from .console import Display

_LOOK_EVERY = 1.0


def refresh(training: Training) -> None:
    """The row as it is now. Raises `CommandError` once it was deleted."""
    try:
        training.refresh_from_db()
    except Training.DoesNotExist as error:
        raise CommandError(f"{training.name} was deleted.", returncode=4) from error


class Follower:
    """Runs a pending training here and shows its events; if a worker was faster, watches."""

    def __init__(self, training: Training, display: Display) -> None:
        self._training = training
        self._display = display

    def run(self, worker: str) -> None:
        from workers import supervisor

        # One that was interrupted here (the console was suspended, it hung) waits in the queue, and
        # perhaps there is no other worker.
        while supervisor.run(str(self._training.pk), worker, self._hear):
            refresh(self._training)
            if self._training.status != Status.PENDING:
                break
        self.watch()

    def _hear(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "phase":
                self._display.update(self._share(event), event["phase"].replace("_", " "))
            case "progress":
                self._display.update(self._share(event), _numbers(event))
            case "checkpoint" | "checkpoint_set_aside" | "resampled" | "warning":
                level, words = in_words(event) or ("", "")
                self._display.say(f"Warning: {words}" if level == "WARNING" else words)

    def _share(self, event: dict[str, Any]) -> float:
        return float((event.get("step") or 0) / self._training.num_steps)

    def watch(self) -> None:
        """Until the run has ended, whoever runs it."""
        training = self._training
        refresh(training)
        while not training.has_ended:
            self._display.update(training.progress, _state(training))
            time.sleep(_LOOK_EVERY)
            refresh(training)


def _state(training: Training) -> str:
    """What is known of a run that another process runs."""
    if training.phase == "training" and training.latest.get("loss") is not None:
        return _numbers(training.latest)
    if training.status == Status.RUNNING:
        phase = training.phase.replace("_", " ") or "running"
        return f"{phase}, by {training.worker}"
    return "waiting for a worker"


def _numbers(event: dict[str, Any]) -> str:
    return (
        f"step {event['step']:,}  loss {_short(event['loss'])}  L0 {_short(event['l0'])}  "
        f"FVU {_short(event['fvu'])}  dead {event['dead_neurons']:,}  "
        f"{_short(event['tokens_per_second'])} tokens/s"
    )


def _short(value: float | None) -> str:
    if value is None:
        return "not a number"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
