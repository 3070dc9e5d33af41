"""A dataset that can be read: it exists, its column holds text, and its size is known."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from trainings.models import Dataset
from workers import hub
from workers.texts import TextError, Texts, local_file

from . import demo_text
from .job import Job, refuse_twin

_FIRST_ROWS = 8
_REPORT_EVERY = 1000


def prepare(dataset: Dataset, job: Job) -> dict[str, Any]:
    sources: dict[str, Callable[[Dataset, Job], dict[str, Any]]] = {
        Dataset.Source.HUB: _from_hub,
        Dataset.Source.FILE: _from_file,
        Dataset.Source.DEMO: _from_standard_library,
    }
    return sources[dataset.source](dataset, job)


def _from_hub(dataset: Dataset, job: Job) -> dict[str, Any]:
    """Read the first rows; the rest is streamed when it is tokenized."""
    job.report(0.0, "Asking the Hugging Face hub")
    dataset.revision = hub.pinned(dataset)
    same = {"subset": dataset.subset, "split": dataset.split}
    refuse_twin(dataset, revision=dataset.revision, **same)
    job.report(0.3, "Reading the first rows")
    rows = list(itertools.islice(hub.Stream(dataset), _FIRST_ROWS))
    if not rows:
        raise TextError(f"The split {dataset.split!r} of {dataset.location} is empty.")
    if dataset.text_column not in rows[0]:
        raise TextError(
            f"There is no column {dataset.text_column!r} in {dataset.location}; "
            f"there are {', '.join(rows[0])}."
        )
    if not any(isinstance(row[dataset.text_column], str) for row in rows):
        raise TextError(f"The column {dataset.text_column!r} of {dataset.location} holds no text.")
    return {"revision": dataset.revision}


def _from_file(dataset: Dataset, job: Job) -> dict[str, Any]:
    """Read it once to the end, so that what is wrong in it is said now and not hours later."""
    path = local_file(dataset.location)
    documents = 0
    for documents, _ in enumerate(Texts(dataset), start=1):
        if documents % _REPORT_EVERY == 0:
            job.report(0.0, f"{documents:,} documents read")
    if not documents:
        raise TextError(f"{path.name} holds no text.")
    return {"n_documents": documents, "size_bytes": path.stat().st_size}


def _from_standard_library(dataset: Dataset, job: Job) -> dict[str, Any]:
    job.draft.mkdir()
    file = job.draft / "text.jsonl"
    documents = demo_text.write(file, job.report)
    return {"n_documents": documents, "size_bytes": file.stat().st_size}
