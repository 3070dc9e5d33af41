"""Go on with a training that was stopped or failed."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from trainings import nudge
from trainings.management import naming, running
from trainings.management.console import quiet
from trainings.models import Training


class Command(BaseCommand):
    help = (
        "Go on with a stopped or failed training in this process, from its newest checkpoint, "
        "without web, Redis or worker. Ctrl-C saves and stops. Exit code: 0 completed, 1 failed, "
        "2 it cannot be resumed, 3 stopped. Example: manage.py resume 1f0c6b7d"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("training", help="Id, its beginning, or name.")
        parser.add_argument("--from-scratch", action="store_true", help="From step 0 instead.")
        parser.add_argument("--queue", action="store_true", help="Leave it to the workers.")
        parser.add_argument(
            "--json", action="store_true", help="Print one JSON object at the end on stdout."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        run = naming.training(options["training"])
        if not Training.objects.restart(run.pk, from_scratch=options["from_scratch"]):
            raise CommandError(
                f"{run.name} is {run.shown_status}; only what failed or was stopped goes on.",
                returncode=2,
            )
        if not options["queue"]:
            with quiet(options["verbosity"]):
                running.see_through(run, self.stdout, as_json=options["json"])
            return
        nudge.run(run.pk)
        run.refresh_from_db()
        found = {"id": str(run.pk), "name": run.name, "status": run.status}
        self.stdout.write(json.dumps(found) if options["json"] else f"{run.name} is queued.")
