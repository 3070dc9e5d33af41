"""A run folder trained, its events written as JSON lines, and every failure as a sentence."""

from __future__ import annotations

import errno
import json
import logging
import signal
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from pydantic import ValidationError

from . import memory
from .checkpoint import CheckpointError
from .config import ConfigError, RunSpec
from .events import Ended, Event, Failed, Paused
from .export import ExportError
from .failure import TrainingError
from .model import ModelError
from .ranks import LostRank
from .ranks.group import launched, together
from .ranks.last_word import claim, spoken
from .rehearsal import rehearse
from .saved import CannotExport, UnreadableSae
from .saved.proof import NotProved
from .tokens import TokenizeError
from .train import train
from .voice import Voice

log = logging.getLogger(__name__)

_SENTENCES = (
    ConfigError,
    ModelError,
    TokenizeError,
    TrainingError,
    ExportError,
    UnreadableSae,
    CannotExport,
    NotProved,
)
# No space on the device, over one's quota, over the largest file allowed.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# The exit status of a rank that has lost another: all of them are started again.
LOST = 76


def run(
    run_dir: Path,
    voice: Voice,
    stop: threading.Event,
    pause: threading.Event,
    words: Sequence[str] = (),
) -> int:
    """Train what `run_dir/run.json` says; return the exit status.

    Of several ranks this process starts the others, with the same `words`, or it is one of them.
    """
    quiet()
    step = 0

    def asked_to_stop() -> bool:
        voice.beat()  # it is asked between steps and between forward passes
        return stop.is_set()

    try:
        if launched() and spoken(run_dir):
            return 0
        spec = RunSpec.read(run_dir)
        if spec.ranks > 1 and not launched():
            from .ranks.launch import launch  # torchrun's parts, which no other run needs

            asked = {signal.SIGTERM: stop, signal.SIGUSR1: pause}
            return launch(run_dir, spec.ranks, words, voice, asked)
        with together() as ranks:
            for event in train(spec, run_dir, asked_to_stop, pause.is_set, ranks):
                step = event.step
                if ranks.first and _may_say(event, run_dir):
                    voice.say(event)
    except BrokenPipeError:
        log.error("Nobody reads the events any more; the run ends at step %d.", step)
        return 1
    except LostRank as error:
        log.error("The run is broken off at step %d: %s", step, error)
        return LOST
    except Exception as error:
        log.exception("The run failed at step %d.", step)
        failed = Failed(step=step, error=sentence(error))
        if _may_say(failed, run_dir):
            voice.say(failed)
        return 1
    return 0


def _may_say(event: Event, run_dir: Path) -> bool:
    """Whether no other process of the run has said how it ended."""
    last = isinstance(event, Ended | Paused | Failed)
    return claim(run_dir, event) if last and launched() else True


def rehearsed(run_dir: Path, out: TextIO) -> int:
    """Measure what the training will take; one line on `out`, and the exit status."""
    quiet()
    try:
        found = rehearse(RunSpec.read(run_dir)).to_dict()
    except Exception as error:
        log.exception("The training cannot be rehearsed.")
        Voice(out).say(Failed(step=0, error=sentence(error)))
        return 1
    out.write(json.dumps(found) + "\n")
    out.flush()
    return 0


def sentence(error: Exception) -> str:
    """What a researcher is told; the log has the traceback."""
    if isinstance(error, _SENTENCES):
        return str(error)
    if memory.exhausted(error):
        return (
            "The device ran out of memory. Choose a smaller batch size, latent dimension or "
            "buffer, or a larger device."
        )
    if isinstance(error, OSError) and error.errno in FULL:
        return "The disk is full; free some space and resume the training."
    if isinstance(error, OSError):
        return f"A file could not be read or written: {error}."
    if isinstance(error, CheckpointError):
        return f"A checkpoint could not be written: {error}; the disk may be failing."
    if isinstance(error, ValidationError):
        return f"run.json does not describe a training: {error.errors()[0]['msg']}."
    return f"An unexpected error ended the run ({type(error).__name__}: {error}); see the log."


def quiet() -> None:
    """Keep the log for what a researcher can use."""
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
