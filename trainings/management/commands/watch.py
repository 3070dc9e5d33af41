"""A training live in the terminal, whoever runs it."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from trainings.management import naming, running
from trainings.management.console import Display
from trainings.management.following import Follower, refresh
from trainings.models import METRIC_FIELDS, Training
from workers.engine.events import finite

LOOK_EVERY = 1.0


class Command(BaseCommand):
    help = (
        "Watch a training until it ends; Ctrl-C leaves it alone. Exit code: 0 completed, 1 failed, "
        "2 there is no such training, 3 stopped, 4 deleted, 130 you looked away. "
        "Example: manage.py watch smollm2-135m-l5-jumprelu-8x"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("training", help="Id, its beginning, or name.")
        parser.add_argument(
            "--json",
            action="store_true",
            help="Each point as an object a line, then the end as one more.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        run = naming.training(options["training"])
        try:
            if options["json"]:
                self._points(run)
            else:
                with Display(sys.stdout, run.name) as display:
                    Follower(run, display).watch()
        except (KeyboardInterrupt, BrokenPipeError):
            raise SystemExit(130) from None
        running.tell(run, self.stdout, as_json=options["json"])

    def _points(self, run: Training) -> None:
        step = -1
        while True:
            refresh(run)
            ended = run.has_ended  # before the last look: nothing comes after it
            for point in run.metrics.filter(step__gt=step).values(*METRIC_FIELDS):
                step = point["step"]
                self.stdout.write(json.dumps(finite(point)))
                self.stdout.flush()
            if ended:
                return
            time.sleep(LOOK_EVERY)
