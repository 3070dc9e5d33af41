"""An SAE that was trained elsewhere, taken in from the hub or a folder."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from trainings import imports
from trainings.forms import ImportForm
from trainings.management import naming
from trainings.management.console import Display
from trainings.management.places import local_path, looks_local
from trainings.management.sae_work import see_through
from workers.engine.config.sae_job import HOOKS


class Command(BaseCommand):
    help = (
        "Take in an SAE of SAELens's or sparsify's format, so that it can be evaluated, searched "
        "and exported. Exit code: 0 taken in, 1 it cannot be read or does not fit, 2 bad "
        "arguments. Example: manage.py import_sae EleutherAI/sae-smollm2 --subfolder layers.5 "
        "--on TOKENIZATION"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("location", help="Id on the hub, or a folder.")
        parser.add_argument("--on", required=True, metavar="TOKENIZATION", help="Id of a text.")
        parser.add_argument("--subfolder", default="", help="In the repository.")
        parser.add_argument("--revision", default="", help="Branch, tag or commit.")
        parser.add_argument("--name", default="", help="The last part of where it lies if empty.")
        parser.add_argument("--layer", type=int, help="Where its folder does not say.")
        parser.add_argument("--hook", choices=HOOKS, default="", help="As for --layer.")
        parser.add_argument("--json", action="store_true", help="One object on stdout.")

    def handle(self, *args: Any, **options: Any) -> None:
        sae = imports.ask(_asked(options), None)
        job = sae.jobs.get()
        stream = sys.stderr if options["json"] else sys.stdout
        with Display(stream, str(job)) as display:
            see_through(job, display)
        if job.status != "done":
            imports.remove(sae)
            raise CommandError(job.error_message)
        sae.refresh_from_db()
        told = {"id": str(sae.pk), "name": sae.name, "path": sae.path, **job.result}
        say = f"{sae.pk}  {sae.name}: {sae.architecture}, {sae.where}, in {sae.path}"
        self.stdout.write(json.dumps(told) if options["json"] else say)


def _asked(options: dict[str, Any]) -> dict[str, Any]:
    """What the form of the page would have cleaned. Raises `CommandError`."""
    text = naming.tokenization(options["on"])
    naming.ready(text)
    local = looks_local(options["location"])
    names = ("subfolder", "revision", "name", "layer", "hook")
    told = {name: options[name] for name in names if options[name] not in (None, "")}
    told |= {"source": "folder" if local else "hub", "tokenization": text.pk}
    told["location"] = local_path(options["location"]) if local else options["location"]
    form = ImportForm(told)
    if not form.is_valid():
        lines = [
            f"{name}: {' '.join(str(each) for each in said)}" for name, said in form.errors.items()
        ]
        raise CommandError("\n".join(lines), returncode=2)
    return form.cleaned_data
