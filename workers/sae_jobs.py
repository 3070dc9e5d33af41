"""Has the engine work on a saved SAE in a process of its own: evaluation, features, probes."""

from __future__ import annotations

import json
import logging
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from django.db import OperationalError, close_old_connections, connection, transaction
from django.db.models.functions import Now

from trainings import logs, store
from trainings.models import Sae, SaeJob
from trainings.store import Absent, StoreError
from workers.engine.config.sae_job import SaeJobKind, SaeJobSpec

from . import fleet, process
from .beside import beside
from .hub import HubError
from .recorder import LeaseLost, patiently
from .rehearsal import ShuttingDown
from .sae_facts import facts_of
from .sae_import import clear_away, fetched, taken_in

logger = logging.getLogger(__name__)

RENEW_EVERY = 10.0
# Progress is written at most this often, in seconds.
WRITE_EVERY = 1.0
# A forward pass of a very large model, or the loading of it, takes minutes; beyond this it hangs.
LONGEST_SILENCE = 30 * 60
_ADVICE = "the whole language model is loaded"


class JobError(Exception):
    """Nothing came of it; the message is a sentence for the researcher."""


OnProgress = Callable[[float, str], None]


def run(pk: str, worker: str, on_progress: OnProgress = lambda share, note: None) -> bool:
    """Claim a pending job and see it through. False if there was nothing to claim.

    `on_progress` gets every report: share from 0 to 1, and a note.
    """
    claimed = {"started_at": Now(), "progress": 0.0, "progress_note": "", "error_message": ""}
    attempt = SaeJob.objects.claim(pk, worker, **claimed)
    if attempt is None:
        return False
    job = SaeJob.objects.select_related(
        "tokenization__model",
        "sae__training__tokenization",
        "sae__training__model",
        "sae__own_text",
        "sae__own_model",
    ).get(pk=pk)
    try:
        result = _result(job, _Row(pk, attempt, on_progress))
    except JobError as error:
        message = str(error)
        patiently(lambda: SaeJob.objects.fail(pk, attempt, message))
    except LeaseLost:
        clear_away(job)
        logger.warning("The job %s was taken over or deleted; its process is ended", pk)
    except ShuttingDown:
        patiently(lambda: SaeJob.objects.hand_back(pk, attempt))
    except Exception as error:
        logger.exception("The job %s ended its supervisor", pk)
        what = f"{type(error).__name__}: {error}".replace("\x00", "")
        reason = f"The worker failed at it ({what}); its log has more."
        patiently(lambda: SaeJob.objects.fail(pk, attempt, reason))
    else:
        patiently(lambda: _finish(job, attempt, result))
    return True


def _finish(job: SaeJob, attempt: int, result: dict[str, Any]) -> None:
    """The job's result; an evaluation on the SAE's own text is also the SAE's."""
    close_old_connections()
    with transaction.atomic():
        if not SaeJob.objects.finish(job.pk, attempt, result):
            clear_away(job)
            return
        if job.kind == SaeJob.Kind.IMPORT:
            taken_in(job, result)
            return
        if job.kind != SaeJob.Kind.EVALUATE or job.tokenization != job.sae.text:
            return
        sae = Sae.objects.select_for_update().get(pk=job.sae_id)
        # It may have been trained on and exported anew meanwhile; these numbers are another's then.
        if sae.path == job.sae.path and sae.step == job.sae.step:
            sae.evaluation = {**sae.evaluation, **result}
            sae.save(update_fields=["evaluation"])


def spec(job: SaeJob, source: Path | None = None) -> SaeJobSpec:
    """All that the child needs to know; `source` is what an import reads."""
    kind: SaeJobKind = job.kind  # type: ignore[assignment]
    held_out = job.sae.held_out_tokens
    return SaeJobSpec(
        kind=kind,
        sae_path=source or Path(job.sae.path),
        model_path=job.tokenization.model.folder,
        tokens_path=job.tokenization.folder,
        text=job.text,
        text_name=str(job.tokenization),
        **_export(job),
        **_import(job),
        **({} if held_out is None else {"held_out_tokens": held_out}),
    )


def _export(job: SaeJob) -> dict[str, Any]:
    if job.kind != SaeJob.Kind.EXPORT:
        return {}
    facts = asdict(facts_of(job.sae))
    return {"format": job.format, "out": job.sae.export_path(job.format), "facts": facts}


def _import(job: SaeJob) -> dict[str, Any]:
    if job.kind != SaeJob.Kind.IMPORT:
        return {}
    layer, hook = job.options.get("layer"), job.options.get("hook") or "resid_post"
    place = {} if layer is None else {"place": {"layer": layer, "hook": hook}}
    return {"out": Path(job.sae.path), **place}


def _result(job: SaeJob, row: _Row) -> dict[str, Any]:
    imports = job.kind == SaeJob.Kind.IMPORT
    try:
        if store.on():
            _fetch(job, row)
        if not imports and not Path(job.sae.path).is_dir():
            raise JobError(f"The SAE's folder {job.sae.path} is not there any more.")
        with tempfile.TemporaryDirectory(prefix="sae-job-") as folder:
            source = fetched(job, Path(folder), row) if imports else None
            spec(job, source).write(Path(folder))
            result = _done(Path(folder), row)
        if store.on() and (made := _made(job)):
            row.tell(0.99, "Putting it into the store")
            beside(partial(store.put, made), row)
        return result
    except (HubError, StoreError) as error:
        raise JobError(str(error)) from error
    except OSError as error:
        raise JobError(f"The job could not be started: {error}.") from error


def _fetch(job: SaeJob, row: _Row) -> None:
    """Have here what it reads; the SAE may be gone, which is another error."""
    if job.kind != SaeJob.Kind.IMPORT:
        with suppress(Absent):
            beside(partial(store.fetch, job.sae.folder), row)
    for folder in (job.tokenization.model.folder, job.tokenization.folder):
        beside(partial(store.fetch, folder), row)


def _made(job: SaeJob) -> Path | None:
    """What a job of this kind writes; None where that is its result alone."""
    match job.kind:
        case SaeJob.Kind.FEATURES:
            return job.sae.features_path
        case SaeJob.Kind.EXPORT:
            return job.sae.export_path(job.format)
        case SaeJob.Kind.IMPORT:
            return job.sae.folder
    return None


class _Row:
    """Keeps the lease and writes how far the work is."""

    def __init__(self, pk: str, attempt: int, on_progress: OnProgress) -> None:
        self._pk, self._attempt, self._on_progress = pk, attempt, on_progress
        self._told: dict[str, Any] = {}
        self._written, self._at = self._told, time.monotonic()

    def tell(self, share: float, note: str) -> None:
        self._told = {"progress": min(1.0, max(0.0, share)), "progress_note": note[:255]}
        self._on_progress(share, note)

    def __call__(self) -> None:
        """Write what is due. Raises `LeaseLost` or `ShuttingDown`."""
        if fleet.leaving():
            raise ShuttingDown
        age = time.monotonic() - self._at
        if age < (RENEW_EVERY if self._told == self._written else WRITE_EVERY):
            return
        self._at = time.monotonic()
        try:
            held = SaeJob.objects.renew(self._pk, self._attempt, **self._told)
        except OperationalError as error:
            logger.warning("The lease of the job %s waits for the database: %s", self._pk, error)
            connection.close()
            return
        self._written = self._told
        if not held or not SaeJob.objects.wanted(self._pk):
            raise LeaseLost


def _done(folder: Path, row: _Row) -> dict[str, Any]:
    path = folder / "log.txt"
    with path.open("wb") as log, process.spawn(folder, log, "--job") as child:
        try:
            last = _followed(child, row)
        finally:
            process.end(child)
    if last.get("event") == "done":
        result: dict[str, Any] = last["result"]
        return result
    logger.warning("A job over an SAE failed: %s", logs.tail(path, 4000))
    ended = process.without_a_word("Its process", _ADVICE, child.returncode)
    raise JobError(last.get("error") or ended)


def _followed(child: subprocess.Popen[str], row: _Row) -> dict[str, Any]:
    """The last word of the child; empty if it said none."""
    lines: Queue[str | None] = Queue()
    threading.Thread(target=process.read, args=(child.stdout, lines), daemon=True).start()
    heard = time.monotonic()
    while time.monotonic() - heard < LONGEST_SILENCE:
        row()
        try:
            line = lines.get(timeout=process.TICK)
        except Empty:
            continue
        if line is None:
            child.wait(timeout=process.LINGER)
            return {}
        # No database keeps null characters.
        heard, said = time.monotonic(), json.loads(line.replace("\\u0000", "\ufffd"))
        if said["event"] != "progress":
            return dict(said)
        row.tell(said["share"], said["note"])
    raise JobError(f"The job said nothing for {LONGEST_SILENCE // 60} minutes and was ended.")
