"""Register a dataset and check that it can be read."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from trainings.management.places import local_path, looks_local
from trainings.management.preparing import PrepareCommand
from trainings.models import Dataset

Source = Dataset.Source


class Command(PrepareCommand):
    help = (
        "Register a text and check that it can be read: from the Hugging Face hub (streamed, "
        "nothing is downloaded in whole), a local .txt, .jsonl, .parquet or .arrow file, or the "
        "documentation and source of Python's standard library (--source demo). "
        "Example: manage.py add_dataset Salesforce/wikitext --subset wikitext-103-raw-v1"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("location", nargs="?", default="", help="Hub id (owner/name) or file.")
        parser.add_argument("--name", help="How it is called; default: the last word.")
        parser.add_argument("--subset", default="", help="Configuration of a hub dataset.")
        parser.add_argument("--split", default="train", help="Split of a hub dataset (train).")
        parser.add_argument("--revision", default="", help="Branch, tag or commit on the hub.")
        parser.add_argument("--text-column", default="text", help="Column with the text (text).")
        parser.add_argument(
            "--source",
            choices=Source.values,
            help="Default: file for a path that starts with /, ./, ../ or ~, otherwise hub.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        location = str(options["location"])
        source = options["source"] or (Source.FILE if looks_local(location) else Source.HUB)
        if source == Source.FILE:
            location = local_path(location)
        if not location and source != Source.DEMO:
            raise CommandError("Name a hub id or a file, or say --source demo.", returncode=2)
        row = self.registered(
            Dataset(
                name=options["name"] or _name(location),
                source=source,
                location=location,
                subset=options["subset"],
                split=options["split"],
                revision=options["revision"],
                text_column=options["text_column"],
            ),
            but_for=("text_column",),
        )
        self.see_through(row, options)

    def facts(self, row: Dataset) -> str:
        if row.n_documents is None:
            return f"split {row.split} at revision {row.revision[:12]}, streamed"
        return f"{row.n_documents:,} documents"


def _name(location: str) -> str:
    return location.rsplit("/", 1)[-1] or "Python standard library"
