"""A training that runs in a command's own process, and how its end is told."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.core.management.base import CommandError, OutputWrapper
from django.db import connection

from trainings.models import Sae, Training
from workers import fleet

from .console import Display
from .following import Follower, refresh

EXIT = {"completed": 0, "failed": 1, "stopped": 3}


def see_through(training: Training, stdout: OutputWrapper, *, as_json: bool) -> None:
    """Run the pending training here, tell how it ended, and end with the exit code of that."""
    with Display(sys.stderr if as_json else sys.stdout, training.name) as display:
        try:
            with _stopping(training.pk, display):
                Follower(training, display).run(fleet.name())
        except KeyboardInterrupt as error:
            refresh(training)
            reason = "Ended by a second Ctrl-C before it was saved; what was saved is kept."
            own = training.worker == fleet.name()
            if not (own and Training.objects.fail(training.pk, training.attempt, reason)):
                reason = f"You looked away; {training.name} is {training.shown_status}."
            raise CommandError(reason, returncode=130) from error
    tell(training, stdout, as_json=as_json)


def tell(training: Training, stdout: OutputWrapper, *, as_json: bool) -> None:
    """How it ended, as one object or a sentence; then the exit code of that."""
    refresh(training)
    text = json.dumps(result(training)) if as_json else sentence(training)
    with suppress(BrokenPipeError):  # nobody reads it; the exit code says the same
        stdout.write(text)
    if EXIT[training.status]:
        sys.exit(EXIT[training.status])


def result(training: Training) -> dict[str, Any]:
    """What `--json` prints."""
    sae = Sae.objects.filter(training=training).first()
    names = ("loss", "l0", "fvu", "dead_neurons")
    return {
        "id": str(training.pk),
        "name": training.name,
        "status": training.status,
        "final_metrics": {
            "step": training.current_step,
            **{name: training.latest.get(name) for name in names},
            "evaluation": sae.evaluation if sae else None,
        },
        "sae_path": training.sae_path,
        "error_message": training.error_message,
    }


def sentence(training: Training) -> str:
    if training.error_message:
        return f"Failed at step {training.current_step:,}: {training.error_message}"
    where = f" The SAE is in {training.sae_path}" if training.sae_path else ""
    return f"{training.get_status_display()} at step {training.current_step:,}.{where}"


@contextmanager
def _stopping(pk: Any, display: Display) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM ask the run to save and end; a second one ends at once."""

    def ask() -> None:
        Training.objects.request_stop(pk)
        connection.close()

    def first(*_: object) -> None:
        for number in previous:
            signal.signal(number, signal.default_int_handler)
        # Not here: the signal may have come in the middle of a transaction.
        threading.Thread(target=ask).start()
        display.say("Stopping: the run is saved first. Ctrl-C again ends it at once.")

    previous = {n: signal.signal(n, first) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
