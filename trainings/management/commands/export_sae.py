"""An SAE's files, where another tool reads them: as they lie, or in a format of its own."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from trainings.management import naming
from trainings.management.drafts import drafted, new_folder
from trainings.management.exporting import add_options, exported, proof_line
from trainings.models import Sae


class Command(BaseCommand):
    help = (
        "Write a training's SAE into a folder, whole or not at all, and read it back. Without "
        "--format, --card and --unit-norm its files are copied as they lie. Exit code: 0 written, "
        "1 it cannot be, 2 there is no such SAE, or the format has none. "
        "Example: manage.py export_sae smollm2-135m-l5-jumprelu-8x saes/l5 --format saelens"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("training", help="Id, its beginning, or name.")
        parser.add_argument("folder", help="New, or empty.")
        add_options(parser, "as the training left it")
        parser.add_argument("--card", action="store_true", help="With a model card, README.md.")
        parser.add_argument("--json", action="store_true", help="One object on stdout.")

    def handle(self, *args: Any, **options: Any) -> None:
        sae = naming.sae(options["training"])
        folder = new_folder(options["folder"])
        if options["license"] and not options["card"]:
            raise CommandError("A licence is written on the card: add --card.", returncode=2)
        try:
            with drafted(folder) as draft:
                told = _written(sae, draft, folder.name, options) | {"folder": str(folder)}
        except OSError as error:
            raise CommandError(f"It could not be written: {error}") from error
        self.stdout.write(json.dumps(told) if options["json"] else _said(told))


def _written(sae: Sae, draft: Path, name: str, options: dict[str, Any]) -> dict[str, Any]:
    format = options["format"] or sae.format
    if not (options["format"] or options["card"] or options["unit_norm"]):
        return {"format": format, "files": copied(Path(sae.path), draft)}
    licence = options["license"] if options["card"] else None
    told = exported(sae, format, draft, licence, name, unit_norm=options["unit_norm"])
    return told | {"files": {name: found["sha256"] for name, found in told["files"].items()}}


def _said(told: dict[str, Any]) -> str:
    lines = [f"{told['format']} in {told['folder']}"]
    if "read_by" in told:
        lines.append(proof_line(told))
    return "\n".join(lines + [f"{name}  {digest}" for name, digest in told["files"].items()])


def copied(source: Path, target: Path) -> dict[str, str]:
    """Copy a folder's files; the SHA-256 of each, by name, as read from the copy.

    Raises OSError where the copy is not what was read.
    """
    files = {}
    for path in sorted(path for path in source.iterdir() if path.is_file()):
        shutil.copyfile(path, target / path.name)
        files[path.name] = _sha256(target / path.name)
        if files[path.name] != _sha256(path):
            raise OSError(f"{path.name} was not copied as it is")
    return files


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
