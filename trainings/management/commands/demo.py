"""Start the demo."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from trainings import demo, live
from trainings.management.console import quiet


class Command(BaseCommand):
    help = (
        "Register SmolLM2-135M and the text of Python's standard library, and queue a short "
        "training on them for the running studio; a second call changes nothing. "
        "Example: manage.py demo"
    )

    def handle(self, *args: Any, **options: Any) -> None:
        with quiet(options["verbosity"]):
            try:
                training = demo.start()
            except ValidationError as error:
                raise CommandError(error.message) from error
            live.publisher().drain()
        self.stdout.write(f"{training.pk}  {training.name}  {training.shown_status}")
