"""An SAE to the Hugging Face hub, for everybody or for oneself."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from trainings.management import naming
from trainings.management.exporting import add_options, exported, proof_line


class Command(BaseCommand):
    help = (
        "Send a training's SAE with a model card to a repository of the Hugging Face hub, which "
        "is made if there is none; HF_TOKEN is a token that may write there. Exit code: 0 sent, "
        "1 it was not, 2 there is no such SAE, or the format has none. "
        "Example: manage.py push_sae smollm2-135m-l5-jumprelu-8x you/smollm2-saes --private"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("training", help="Id, its beginning, or name.")
        parser.add_argument("repository", help="owner/name.")
        add_options(parser, "that in which the training left it")
        parser.add_argument("--private", action="store_true", help="Not for everybody.")
        parser.add_argument("--subfolder", help="In the repository; the training's name if empty.")
        parser.add_argument("--json", action="store_true", help="One object on stdout.")

    def handle(self, *args: Any, **options: Any) -> None:
        from workers.hub import HubError
        from workers.hub_upload import push

        sae, repository = naming.sae(options["training"]), options["repository"]
        format, subfolder = options["format"] or sae.format, options["subfolder"]
        subfolder = subfolder or sae.file_stem
        with TemporaryDirectory(prefix="push-", dir=settings.HOME) as temporary:
            out = Path(temporary, "sae")
            try:
                told = exported(
                    sae,
                    format,
                    out,
                    options["license"],
                    subfolder,
                    repository,
                    options["unit_norm"],
                )
                done = push(out, repository, subfolder, told["files"], options["private"])
            except OSError as error:
                raise CommandError(f"It could not be written: {error}") from error
            except HubError as error:
                raise CommandError(str(error)) from error
        del told["folder"]
        told["files"] = {name: f["sha256"] for name, f in told["files"].items()}
        say = f"{done.url}\n{proof_line(told)}"
        if not done.own_card:
            say += f"\nThe repository has a card of its own; this one is in {subfolder}/README.md."
        self.stdout.write(json.dumps(told | asdict(done)) if options["json"] else say)
