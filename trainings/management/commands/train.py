"""Train one SAE in this process, without web, Redis or worker."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection
from django.db.models.functions import Now
from pydantic import ValidationError

from trainings import live
from trainings.management import rehearsal
from trainings.management.asking import chosen_tokenization, hyperparameters
from trainings.management.console import Display, quiet, worker_name
from trainings.management.following import Follower
from trainings.models import Sae, Training
from trainings.models.transitions import Status
from workers.engine.config import PRESETS, Architecture, ConfigError, TrainingConfig, problems

EXIT = {"completed": 0, "failed": 1, "stopped": 3}


class Command(BaseCommand):
    help = (
        "Train a sparse autoencoder in this process, without web, Redis or worker. Ctrl-C saves "
        "and stops; the SAE so far is kept. Exit code: 0 completed, 1 failed, 2 bad arguments, "
        "3 stopped. Example: manage.py train --model SmolLM2-135M --dataset 'Python standard "
        "library' --layer 5 --architecture jumprelu --set num_steps=1000 --set target_l0=64"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--model", help="Name or id of a ready model.")
        parser.add_argument("--dataset", help="Name or id of a ready dataset.")
        parser.add_argument("--tokenization", help="Id; needed where several fit.")
        parser.add_argument("--context-length", type=int, help="Chooses among tokenizations.")
        parser.add_argument("--layer", type=int, required=True, help="Decoder block, from 0.")
        parser.add_argument(
            "--architecture",
            choices=list(Architecture),
            help=f"Default: the preset's, or {Architecture.STANDARD}.",
        )
        parser.add_argument(
            "--preset",
            choices=list(PRESETS),
            help="A recipe to start from; docs/hyperparameters.md says what each has reached.",
        )
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="A hyperparameter, as often as needed; it wins over the preset's. "
            "docs/hyperparameters.md lists them.",
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="Only measure: a few steps give time, memory and disk; nothing is kept.",
        )
        parser.add_argument("--name", help="Default: model, layer and architecture.")
        parser.add_argument(
            "--json", action="store_true", help="Print one JSON object at the end on stdout."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["dry_run"]:
            self._rehearse(options)
            return
        with quiet(options["verbosity"]):
            training = self._queued(options)
            self._see_through(training, sys.stderr if options["json"] else sys.stdout)
            live.publisher().drain()
        training.refresh_from_db()
        self.stdout.write(json.dumps(result(training)) if options["json"] else sentence(training))
        if EXIT[training.status]:
            sys.exit(EXIT[training.status])

    def _see_through(self, training: Training, stream: TextIO) -> None:
        with Display(stream, training.name) as display:
            try:
                with _stopping(training.pk, display):
                    Follower(training, display).run(worker_name())
            except KeyboardInterrupt as error:
                training.refresh_from_db()
                reason = "Ended by a second Ctrl-C before it was saved; what was saved is kept."
                Training.objects.end(
                    training.pk,
                    training.attempt,
                    Status.FAILED,
                    error_message=reason,
                    completed_at=Now(),
                )
                raise CommandError(reason, returncode=130) from error

    def _rehearse(self, options: dict[str, Any]) -> None:
        tokenization = chosen_tokenization(options)
        with _naming_fields():
            found = rehearsal.rehearse(tokenization, _config(options))
        self.stdout.write(json.dumps(found) if options["json"] else rehearsal.sentences(found))

    def _queued(self, options: dict[str, Any]) -> Training:
        """The pending row. Ends the command, naming each field, where it cannot be trained."""
        tokenization = chosen_tokenization(options)
        with _naming_fields():
            config = _config(options)
            name = f"{tokenization.model}-layer{config.layer}-{config.architecture}"
            return Training.objects.start(
                name=options["name"] or name,
                tokenization=tokenization,
                config=config,
                nudge_workers=False,
            )


def _config(options: dict[str, Any]) -> TrainingConfig:
    """Raises `ConfigError`, or `CommandError` where preset and architecture disagree."""
    preset = PRESETS.get(options["preset"])
    asked = options["architecture"]
    if preset and asked and asked != preset.architecture:
        raise CommandError(
            f"The preset {preset.name} is for {preset.architecture}; leave --architecture out.",
            returncode=2,
        )
    return TrainingConfig(
        architecture=preset.architecture if preset else asked or Architecture.STANDARD,
        layer=options["layer"],
        hyperparameters=hyperparameters(options["set"], preset.hyperparameters if preset else {}),
    )


@contextmanager
def _naming_fields() -> Iterator[None]:
    """End the command with a line for every field that is wrong."""
    try:
        yield
    except (ValidationError, ConfigError) as error:
        lines = [f"{problem.field}: {problem.message}" for problem in problems(error)]
        raise CommandError("\n".join(lines), returncode=2) from error


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
        display.say("Stopping: the run is saved first. Ctrl-C again ends it at once.")
        # Not here: the signal may have come in the middle of a transaction.
        threading.Thread(target=ask).start()

    previous = {n: signal.signal(n, first) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
