"""Several run folders trained on one stream of activations, their events written as JSON lines."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from .config import RunSpec
from .config.members import read_members
from .events import Ended, Event, Failed, Paused
from .leaving import Leaving
from .prepared import Entry
from .run import quiet, sentence
from .train import train_together
from .voice import Voice

log = logging.getLogger(__name__)


def sweep(
    folder: Path, voice: Voice, stop: threading.Event, pause: threading.Event, leaving: Leaving
) -> int:
    """Train what the run folders named in `folder/members.json` say; return the exit status.

    It is 1 where any of them failed. What concerns them all is told as the failure of each.
    """
    quiet()
    goes_on: dict[str, int] = {}
    status = 0

    def asked_to_stop() -> bool:
        voice.beat()  # it is asked between steps and between forward passes
        return stop.is_set()

    try:
        entries = _entries(folder, leaving)
        goes_on = {entry.training_id: 0 for entry in entries}
        for training_id, event in train_together(entries, _failed, asked_to_stop, pause.is_set):
            goes_on[training_id] = event.step
            if isinstance(event, Ended | Paused | Failed):
                del goes_on[training_id]
            status |= isinstance(event, Failed)
            voice.say(event, training_id)
    except BrokenPipeError:
        log.error("Nobody reads the events any more; the group ends.")
        return 1
    except Exception as error:
        log.exception("The group failed.")
        if not goes_on:
            voice.say(Failed(step=0, error=sentence(error)))
        for training_id, step in goes_on.items():
            voice.say(Failed(step=step, error=sentence(error)), training_id)
        return 1
    return status


def _entries(folder: Path, leaving: Leaving) -> list[Entry]:
    run_dirs = read_members(folder)
    specs = [RunSpec.read(run_dir) for run_dir in run_dirs]
    return [
        Entry(spec, run_dir, leaving.asks(spec.training_id))
        for spec, run_dir in zip(specs, run_dirs, strict=True)
    ]


def _failed(training_id: str, step: int, error: Exception) -> Event:
    log.error("The training %s failed at step %d.", training_id, step, exc_info=error)
    return Failed(step=step, error=sentence(error))
