"""The trainings in a terminal."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from trainings.api.schemas import TrainingOut
from trainings.management.console import columns
from trainings.models import Training
from trainings.models.transitions import Status
from trainings.templatetags.studio import count, number, percent
from trainings.views.listing import SORT_WORDS, Listing

COLUMNS = ("ID", "STATUS", "DONE", "LOSS", "L0", "FVU", "DEAD", "NAME")


class Command(BaseCommand):
    help = (
        "List trainings, the newest first. Exit code: 0. "
        "Example: manage.py list --status running --json"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--status", choices=Status.values)
        parser.add_argument("--search", default="", help="In name, model, dataset and notes.")
        parser.add_argument("--tag", default="")
        parser.add_argument("--sort", choices=list(SORT_WORDS), default="newest")
        parser.add_argument("--limit", type=int, default=20, help="At most so many (20).")
        parser.add_argument("--json", action="store_true", help="One list of objects on stdout.")

    def handle(self, *args: Any, **options: Any) -> None:
        listing = Listing(
            status=options["status"] or "",
            search=options["search"],
            tag=options["tag"],
            sort=SORT_WORDS[options["sort"]],
        )
        runs = list(listing.runs()[: max(0, options["limit"])])
        if options["json"]:
            found = [TrainingOut.from_orm(run).model_dump(mode="json") for run in runs]
            self.stdout.write(json.dumps(found))
            return
        self.stdout.write(columns(COLUMNS, [_row(run) for run in runs]))


def _row(run: Training) -> tuple[str, ...]:
    latest = run.latest
    figures = (number(latest.get(name)) for name in ("loss", "l0", "fvu"))
    dead = count(latest.get("dead_neurons"))
    return (str(run.pk)[:8], run.shown_status, percent(run.progress), *figures, dead, run.name)
