"""Train one SAE in this process, without web, Redis or worker."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from trainings.management import rehearsal, running
from trainings.management.asking import (
    add_what_to_train,
    chosen_tokenization,
    config_of,
    naming_fields,
)
from trainings.management.console import quiet
from trainings.models import Training
from workers.engine.config import settled_layers


class Command(BaseCommand):
    help = (
        "Train a sparse autoencoder in this process, without web, Redis or worker. Ctrl-C saves "
        "and stops; the SAE so far is kept. Exit code: 0 completed, 1 failed, 2 bad arguments, "
        "3 stopped. Example: manage.py train --model SmolLM2-135M --dataset 'Python standard "
        "library' --layer 5 --architecture jumprelu --set num_steps=1000 --set target_l0=64"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_what_to_train(parser)
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
        with naming_fields():
            found = rehearsal.rehearse(tokenization, config_of(options, tokenization))
        self.stdout.write(json.dumps(found) if options["json"] else rehearsal.sentences(found))

    def _queued(self, options: dict[str, Any]) -> Training:
        """The pending row. Ends the command, naming each field, where it cannot be trained."""
        tokenization = chosen_tokenization(options)
        with naming_fields():
            config = config_of(options, tokenization)
            layers = "-".join(map(str, settled_layers(config)))
            name = f"{tokenization.model}-layer{layers}-{config.architecture}"
            return Training.objects.start(
                name=options["name"] or name,
                tokenization=tokenization,
                config=config,
                nudge_workers=False,
            )
