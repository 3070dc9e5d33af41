"""Ask trainings to save and end."""

from __future__ import annotations

import json
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from trainings.management import naming
from trainings.management.following import refresh
from trainings.models import Training

LOOK_EVERY = 0.5


class Command(BaseCommand):
    help = (
        "Stop trainings: each writes a checkpoint and its SAE, then ends. Exit code: 0 done, "
        "1 one of them had ended before, 2 there is no such training. "
        "Example: manage.py stop 1f0c6b7d --wait"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("training", nargs="+", help="Id, its beginning, or name.")
        parser.add_argument("--wait", action="store_true", help="Until all of them have ended.")
        parser.add_argument("--json", action="store_true", help="One list of objects on stdout.")

    def handle(self, *args: Any, **options: Any) -> None:
        named = (naming.training(text) for text in options["training"])
        runs = list({run.pk: run for run in named}.values())
        asked = {run.pk: Training.objects.request_stop(run.pk) or _stops(run) for run in runs}
        try:
            for run in runs:
                refresh(run)
                while options["wait"] and not run.has_ended:
                    time.sleep(LOOK_EVERY)
                    refresh(run)
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        if options["json"]:
            found = [
                {"id": str(run.pk), "asked": asked[run.pk], "status": run.shown_status}
                for run in runs
            ]
            self.stdout.write(json.dumps(found))
        else:
            for run in runs:
                before = "" if asked[run.pk] else "It could not be stopped any more: "
                self.stdout.write(f"{before}{run.name} is {run.shown_status}.")
        if not all(asked.values()):
            raise SystemExit(1)


def _stops(run: Training) -> bool:
    """One that is stopping already does what was asked for."""
    return bool(run.stop_requested_at) and not run.has_ended
