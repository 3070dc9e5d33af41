"""Templates from a file that was exported before."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from templates_app import exchange
from workers.engine.config import ConfigError


class Command(BaseCommand):
    help = (
        "Import training templates from a file, all of them or none. Exit code: 0 imported, "
        "1 the file cannot be read, 2 something in it is wrong. "
        "Example: manage.py import_template sweep.json"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", help="What export_template wrote; - is stdin.")
        parser.add_argument("--json", action="store_true", help="One list of objects on stdout.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            made = exchange.take(_read(options["file"]))
        except OSError as error:
            raise CommandError(f"{options['file']}: {error.strerror}") from error
        except ConfigError as error:
            lines = [f"{problem.field}: {problem.message}" for problem in error.problems]
            raise CommandError("\n".join(lines), returncode=2) from error
        if options["json"]:
            found = [{"id": str(template.pk), "name": template.name} for template in made]
            self.stdout.write(json.dumps(found))
            return
        for template in made:
            self.stdout.write(f"{template.pk}  {template.name}")


def _read(file: str) -> bytes:
    """No more than tells that there is too much."""
    if file == "-":
        return sys.stdin.buffer.read(exchange.MOST_BYTES + 1)
    with Path(file).open("rb") as stream:
        return stream.read(exchange.MOST_BYTES + 1)
