"""What an import adds to a job: fetching from the hub, and the row of what was taken in."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError

from trainings import store
from trainings.models import Sae, SaeJob
from trainings.sources import check_local_path

from .hub import HubError, fetch_sae

_PROOF = ("max_difference", "read_by", "digest", "why_plain")
_COLUMNS = (*_PROOF, "format")


def fetched(job: SaeJob, workspace: Path, go_on: Callable[[], None]) -> Path:
    """The folder to read: the one that was named, looked at again, or fetched from the hub.

    `go_on` is called as bytes come; what it raises ends the download. Raises `HubError`.
    """
    told = job.options
    if told["source"] == "hub":
        subfolder, revision = told.get("subfolder") or "", told.get("revision") or ""
        return fetch_sae(told["location"], subfolder, revision, workspace / "fetched", go_on)
    try:
        return check_local_path(told["location"])
    except ValidationError as error:
        raise HubError(error.message) from error


def taken_in(job: SaeJob, result: dict[str, Any]) -> None:
    """Write what was found out to the SAE's row."""
    Sae.objects.filter(pk=job.sae_id).update(
        ready=True,
        format=result["format"],
        facts={name: value for name, value in result.items() if name not in _COLUMNS},
        export={name: result[name] for name in ("format", *_PROOF)},
    )


def clear_away(job: SaeJob) -> None:
    """Remove what a job wrote of an SAE whose row was deleted meanwhile."""
    if Sae.objects.filter(pk=job.sae_id).exists():
        return
    run = job.sae.training
    folder = run.folder if run else job.sae.home
    shutil.rmtree(folder, ignore_errors=True)
    store.discard_later(folder)
