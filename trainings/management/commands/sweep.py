"""Queue trainings that share one stream of activations on a running studio."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from trainings import sweeps
from trainings.management.asking import (
    add_what_to_train,
    base_of,
    chosen_tokenization,
    grid,
    naming_fields,
)
from trainings.models import Sweep, Tokenization


class Command(BaseCommand):
    help = (
        "Queue trainings that differ in a few settings and share one stream of activations; the "
        "workers of a running studio train them. Exit code: 0 queued, 2 bad arguments. Example: "
        "manage.py sweep --model SmolLM2-135M --dataset 'Python standard library' --layer 5 "
        "--vary l1_alpha=0.001,0.002,0.004 --vary seed=1,2"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_what_to_train(parser)
        parser.add_argument(
            "--vary",
            action="append",
            default=[],
            metavar="NAME=VALUE,VALUE",
            help="A hyperparameter, or architecture, and its values, as often as needed: every "
            "combination is trained.",
        )
        parser.add_argument("--name", help="Default: model and layer.")
        parser.add_argument(
            "--json", action="store_true", help="Print one JSON object at the end on stdout."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        tokenization = chosen_tokenization(options)
        with naming_fields():
            sweep = _queued(options, tokenization)
        runs = sweeps.in_order(list(sweep.trainings.all()))
        if not options["json"]:
            self.stdout.write(f"{sweep.name} is queued: {len(runs)} trainings.")
            return
        names = sweeps.own_names(runs)
        trainings = [
            {
                "id": str(run.pk),
                "name": run.name,
                "own": {name: sweeps.value_of(run, name) for name in names},
            }
            for run in runs
        ]
        found = {"id": str(sweep.pk), "name": sweep.name, "trainings": trainings}
        self.stdout.write(json.dumps(found))


def _queued(options: dict[str, Any], tokenization: Tokenization) -> Sweep:
    """Raises `ConfigError` with everything that is wrong."""
    base, sae = base_of(options)
    asked = sweeps.Asked(base, grid(options["vary"]))
    made = sweeps.members(asked, tokenization, sae)
    name = options["name"] or f"{tokenization.model}-layer{made[0].config.layer}-sweep"
    return sweeps.start(name=name, source=tokenization, asked=asked, made=made)[0]
