"""A job over a saved SAE, its progress and its result as JSON lines.

{"event": "progress", "share": 0.4, "note": "Splicing"}
{"event": "done", "result": {...}}      or      {"event": "failed", "step": 0, "error": "..."}
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from . import memory
from .config.facts import Facts
from .config.sae_job import SaeJobKind, SaeJobSpec
from .evaluation import evaluate_saved
from .events import finite
from .features.collect import collect_features
from .features.probe import probe
from .run import FULL, sentence
from .saved.export_job import export_saved
from .saved.formats import Format
from .saved.importing import import_saved

log = logging.getLogger(__name__)

Progress = Callable[[float, str], None]


def _export(spec: SaeJobSpec, progress: Progress) -> dict[str, Any]:
    progress(0.0, "Writing and reading back")
    assert spec.out is not None
    facts = Facts(**spec.facts)
    return export_saved(spec.sae_path, Format(spec.format), spec.out, facts)


def _import(spec: SaeJobSpec, progress: Progress) -> dict[str, Any]:
    progress(0.0, "Reading and checking")
    assert spec.out is not None
    return import_saved(spec.sae_path, spec.out, spec.model_path, spec.place)


_WORK: dict[SaeJobKind, Callable[[SaeJobSpec, Progress], dict[str, Any]]] = {
    "evaluate": evaluate_saved,
    "features": collect_features,
    "probe": probe,
    "export": _export,
    "import": _import,
}


def work(folder: Path, out: TextIO) -> int:
    """Do what `folder/job.json` says; return the exit status."""

    def say(event: str, **data: Any) -> None:
        out.write(json.dumps({"event": event, **data}, allow_nan=False) + "\n")
        out.flush()

    try:
        spec = SaeJobSpec.read(folder)
        result = _WORK[spec.kind](spec, lambda share, note: say("progress", share=share, note=note))
        say("done", result=finite(result))
    except Exception as error:
        log.exception("The job failed.")
        say("failed", step=0, error=_sentence(error))
        return 1
    return 0


def _sentence(error: Exception) -> str:
    """As for a training, where that is not about trainings."""
    if memory.exhausted(error):
        return "Memory does not suffice for this; use a larger device, or wait until others end."
    if isinstance(error, OSError) and error.errno in FULL:
        return "The disk is full; free some space and ask again."
    return sentence(error)
