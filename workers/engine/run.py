"""A run folder trained, its events written as JSON lines, and every failure as a sentence."""

from __future__ import annotations

import errno
import json
import logging
import threading
import warnings
from pathlib import Path
from typing import TextIO

from pydantic import ValidationError

from . import memory
from .checkpoint import CheckpointError
from .config import ConfigError, RunSpec
from .events import Failed
from .export import ExportError
from .failure import TrainingError
from .model import ModelError
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


def run(run_dir: Path, voice: Voice, stop: threading.Event, pause: threading.Event) -> int:
    """Train what `run_dir/run.json` says; return the exit status."""
    step = 0
    _quiet()

    def asked_to_stop() -> bool:
        voice.beat()  # it is asked between steps and between forward passes
        return stop.is_set()

    try:
        for event in train(RunSpec.read(run_dir), run_dir, asked_to_stop, pause.is_set):
            step = event.step
            voice.say(event)
    except BrokenPipeError:
        log.error("Nobody reads the events any more; the run ends at step %d.", step)
        return 1
    except Exception as error:
        log.exception("The run failed at step %d.", step)
        voice.say(Failed(step=step, error=sentence(error)))
        return 1
    return 0


def rehearsed(run_dir: Path, out: TextIO) -> int:
    """Measure what the training will take; one line on `out`, and the exit status."""
    _quiet()
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


def _quiet() -> None:
    """Keep the log for what a researcher can use."""
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
