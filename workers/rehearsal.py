"""Has the engine measure what a training will take, in a process of its own that writes nothing."""

from __future__ import annotations

import json
import logging
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from django.db import OperationalError, connection

from trainings import cache, logs, store
from trainings.models import Rehearsal, Sae, Tokenization, Training
from trainings.store import StoreError
from workers.engine.config import ConfigError, RunSpec, StartSpec, TrainingConfig

from . import fleet, process
from .beside import beside
from .recorder import LeaseLost

logger = logging.getLogger(__name__)

TICK = 0.2
RENEW_EVERY = 10.0
# Loading a very large model from a slow disk takes minutes; beyond this something hangs.
LONGEST = 30 * 60
_ADVICE = "try a smaller batch, buffer or latent dimension"


class RehearsalError(Exception):
    """Nothing could be measured; the message is a sentence for the researcher."""


class ShuttingDown(Exception):
    """This worker is told to end, or drained."""


def measure(
    tokenization: Tokenization,
    config: TrainingConfig,
    go_on: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """The engine's figures. Raises `RehearsalError`.

    `go_on` is called a few times a second; what it raises ends the measurement.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
            spec = _spec(tokenization, config)
            _fetch(spec, go_on)
            spec.write(Path(folder))
            return _figures(Path(folder), go_on)
    except StoreError as error:
        raise RehearsalError(f"What it reads cannot be fetched. {error}") from error
    except OSError as error:
        raise RehearsalError(f"The measurement could not be started: {error}.") from error


def run(pk: str, worker: str) -> bool:
    """Claim a pending rehearsal and see it through. False if there was nothing to claim."""
    attempt = Rehearsal.objects.claim(pk, worker)
    if attempt is None:
        return False
    rows = Rehearsal.objects.select_related("tokenization__model", "tokenization__dataset")
    rehearsal = rows.get(pk=pk)
    watch = _Watch(pk, attempt)
    try:
        figures = measure(rehearsal.tokenization, rehearsal.config, watch)
    except RehearsalError as error:
        Rehearsal.objects.fail(pk, attempt, str(error))
    except LeaseLost:
        logger.warning("The rehearsal %s was taken over or deleted; its process is ended", pk)
    except ShuttingDown:
        Rehearsal.objects.hand_back(pk, attempt)
    else:
        Rehearsal.objects.finish(pk, attempt, figures, beside=watch.saw_training())
    return True


class _Watch:
    """Keeps the lease while the child measures, and looks whether a training runs beside it."""

    def __init__(self, pk: str, attempt: int) -> None:
        self._pk, self._attempt = pk, attempt
        self._due = time.monotonic() + RENEW_EVERY
        self._beside = _training_runs()

    def __call__(self) -> None:
        if fleet.leaving():
            raise ShuttingDown
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + RENEW_EVERY
        try:
            held = Rehearsal.objects.renew(self._pk, self._attempt)
            self.saw_training()
        except OperationalError as error:
            logger.warning("The lease of rehearsal %s waits for the database: %s", self._pk, error)
            connection.close()
            return
        if not held:
            raise LeaseLost

    def saw_training(self) -> bool:
        self._beside = self._beside or _training_runs()
        return self._beside


def _training_runs() -> bool:
    return Training.objects.filter(status="running").exists()


def _spec(tokenization: Tokenization, config: TrainingConfig) -> RunSpec:
    return RunSpec(
        training_id="rehearsal",
        name="rehearsal",
        config=config,
        model_path=tokenization.model.folder,
        model_name=tokenization.model.known_as,
        tokens_path=tokenization.folder,
        dataset_name=tokenization.dataset.name,
        cache=cache.spec(),
        start_from=_start(config),
    )


def _fetch(spec: RunSpec, go_on: Callable[[], None]) -> None:
    """Have here what it reads."""
    paths = [spec.model_path, spec.tokens_path]
    paths += [spec.start_from.folder] if spec.start_from else []
    for path in paths if store.on() else ():
        beside(partial(store.fetch, path), go_on)


def _start(config: TrainingConfig) -> StartSpec | None:
    if config.start_from is None:
        return None
    try:
        sae = Sae.objects.to_continue(config.start_from)
    except ConfigError as error:
        raise RehearsalError(error.problems[0].message) from error
    return StartSpec(name=sae.name, folder=sae.folder)


def _figures(folder: Path, go_on: Callable[[], None]) -> dict[str, Any]:
    path = folder / "log.txt"
    with path.open("wb") as log, process.spawn(folder, log, "--rehearse") as child:
        try:
            said = _last_line(child, go_on)
        finally:
            process.end(child)
    if not said:
        logger.warning("A rehearsal ended without a word: %s", logs.tail(path, 2000))
        raise RehearsalError(process.without_a_word("The measurement", _ADVICE, child.returncode))
    found: dict[str, Any] = json.loads(said)
    if found["event"] == "failed":
        logger.warning("A rehearsal failed: %s", logs.tail(path, 2000))
        raise RehearsalError(found["error"])
    return {name: value for name, value in found.items() if name not in ("event", "step")}


def _last_line(child: subprocess.Popen[str], go_on: Callable[[], None]) -> str:
    """What the child has said once it is gone; empty if it said nothing."""
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        try:
            lines = child.communicate(timeout=TICK)[0].splitlines()
        except subprocess.TimeoutExpired:
            go_on()
            continue
        return lines[-1] if lines else ""
    raise RehearsalError(f"Nothing was measured within {LONGEST // 60} minutes.")
