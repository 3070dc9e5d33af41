"""What the commands share that work on the SAE of a training."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from trainings.models import SaeJob
from workers import fleet, sae_jobs

from . import naming
from .console import Display, quiet

_LOOK_EVERY = 1.0


class SaeCommand(BaseCommand):
    """Asks for a job over a training's SAE and does it here, or watches whoever does."""

    kind: SaeJob.Kind

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("training", help="Id, its beginning, or name.")
        parser.add_argument(
            "--on", metavar="TOKENIZATION", help="Id of another text; default: the training's own."
        )
        parser.add_argument("--json", action="store_true", help="One object on stdout.")

    def handle(self, *args: Any, **options: Any) -> None:
        sae = naming.sae(options["training"])
        job = SaeJob.objects.ask(sae, self.kind, naming.text_of(sae, options["on"]))
        stream = sys.stderr if options["json"] else sys.stdout
        with quiet(options["verbosity"]), Display(stream, str(job)) as display:
            see_through(job, display)
        if job.status == SaeJob.Status.FAILED:
            raise CommandError(job.error_message)
        told = {"id": str(job.pk), "sae_id": str(sae.pk), "result": job.result}
        self.stdout.write(json.dumps(told) if options["json"] else self.facts(job.result))

    def facts(self, result: dict[str, Any]) -> str:
        """What was found, in a few lines."""
        raise NotImplementedError


def see_through(job: SaeJob, display: Display) -> None:
    """Do it here or, if a worker was faster, watch until it has ended."""
    try:
        sae_jobs.run(str(job.pk), fleet.name(), display.update)
    except KeyboardInterrupt as error:
        job.refresh_from_db()
        SaeJob.objects.fail(job.pk, job.attempt, "It was interrupted.")
        raise CommandError("Interrupted; nothing of it is kept.", returncode=130) from error
    job.refresh_from_db()
    while job.under_way:
        display.update(job.progress, job.progress_note or "waiting for a worker")
        time.sleep(_LOOK_EVERY)
        job.refresh_from_db()
