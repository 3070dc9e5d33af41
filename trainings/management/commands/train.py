"""Train one SAE in this process, without web, Redis or worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from pydantic import ValidationError

from trainings.continuing import settled
from trainings.management import naming, rehearsal, running
from trainings.management.asking import chosen_tokenization, hyperparameters
from trainings.management.console import quiet
from trainings.models import Tokenization, Training
from workers.engine.config import (
    PRESETS,
    Architecture,
    ConfigError,
    TrainingConfig,
    problems,
    settled_layers,
)


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
        parser.add_argument(
            "--layer",
            type=int,
            help="Decoder block, from 0; of a crosscoder the first of its layers.",
        )
        parser.add_argument(
            "--architecture",
            choices=list(Architecture),
            help=f"Default: the preset's, or {Architecture.STANDARD}.",
        )
        parser.add_argument(
            "--from",
            metavar="SAE",
            help="Continue this SAE: id, or name of its training or import. Layer, architecture "
            "and width are its own; the text, too, unless another one is named.",
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
            running.see_through(self._queued(options), self.stdout, as_json=options["json"])

    def _rehearse(self, options: dict[str, Any]) -> None:
        tokenization = chosen_tokenization(options)
        with _naming_fields():
            found = rehearsal.rehearse(tokenization, _config(options, tokenization))
        self.stdout.write(json.dumps(found) if options["json"] else rehearsal.sentences(found))

    def _queued(self, options: dict[str, Any]) -> Training:
        """The pending row. Ends the command, naming each field, where it cannot be trained."""
        tokenization = chosen_tokenization(options)
        with _naming_fields():
            config = _config(options, tokenization)
            layers = "-".join(map(str, settled_layers(config)))
            name = f"{tokenization.model}-layer{layers}-{config.architecture}"
            return Training.objects.start(
                name=options["name"] or name,
                tokenization=tokenization,
                config=config,
                nudge_workers=False,
            )


def _config(options: dict[str, Any], tokenization: Tokenization) -> TrainingConfig:
    """Raises `ConfigError`, or `CommandError` where preset and architecture disagree."""
    preset = PRESETS.get(options["preset"])
    asked = options["architecture"]
    if preset and asked and asked != preset.architecture:
        raise CommandError(
            f"The preset {preset.name} is for {preset.architecture}; leave --architecture out.",
            returncode=2,
        )
    sae = naming.sae(options["from"]) if options["from"] else None
    if sae is None and options["layer"] is None:
        raise CommandError("Name a --layer, or an SAE to continue with --from.", returncode=2)
    usual = None if sae else Architecture.STANDARD
    return settled(
        {
            "architecture": preset.architecture if preset else asked or usual,
            "layer": options["layer"],
            "hyperparameters": hyperparameters(
                options["set"], preset.hyperparameters if preset else {}
            ),
        },
        tokenization,
        sae,
    )


@contextmanager
def _naming_fields() -> Iterator[None]:
    """End the command with a line for every field that is wrong."""
    try:
        yield
    except (ValidationError, ConfigError) as error:
        lines = [f"{problem.field}: {problem.message}" for problem in problems(error)]
        raise CommandError("\n".join(lines), returncode=2) from error
