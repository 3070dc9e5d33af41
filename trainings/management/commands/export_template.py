"""Templates as a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from templates_app import exchange
from templates_app.models import TrainingTemplate


class Command(BaseCommand):
    help = (
        "Write training templates as the JSON that import_template and the page read. Exit code: "
        "0 written, 1 the file cannot be written, 2 there is no such template. "
        "Example: manage.py export_template 'wide and sparse' --output sweep.json"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("template", nargs="*", help="Ids or names; none: all of them.")
        parser.add_argument("--output", help="A file; default: stdout.")
        parser.add_argument(
            "--json", action="store_true", help="With --output: say what was written as an object."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        rows = [_named(text) for text in options["template"]]
        rows = rows or list(TrainingTemplate.objects.all())
        if not rows:
            raise CommandError("There is no template yet.", returncode=2)
        text = exchange.write(rows)
        if not options["output"]:
            self.stdout.write(text)
            return
        try:
            Path(options["output"]).write_text(text, encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{options['output']}: {error.strerror}") from error
        names = [row.name for row in rows]
        told = {"file": options["output"], "templates": names}
        say = f"{len(names)} written to {options['output']}: {', '.join(names)}"
        self.stdout.write(json.dumps(told) if options["json"] else say)


def _named(text: str) -> TrainingTemplate:
    rows = TrainingTemplate.objects
    found = list(rows.of(text)) or list(rows.filter(name=text)[:2])
    if len(found) > 1:
        raise CommandError(f"{text!r} is more than one template; write an id.", returncode=2)
    if not found:
        names = ", ".join(rows.values_list("name", flat=True)[:10])
        raise CommandError(f"There is no template {text!r}. There are: {names}.", returncode=2)
    return found[0]
