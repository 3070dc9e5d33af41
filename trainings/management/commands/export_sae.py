"""An SAE's files, copied to where another tool reads them."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from trainings.management import naming
from trainings.models import Sae


class Command(BaseCommand):
    help = (
        "Copy a training's SAE into a folder, whole or not at all, each file read back and "
        "compared. Exit code: 0 copied, 1 it cannot be written, 2 there is no such SAE. "
        "Example: manage.py export_sae smollm2-135m-l5-jumprelu-8x saes/l5"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("training", help="Id, its beginning, or name.")
        parser.add_argument("folder", help="New, or empty.")
        parser.add_argument("--json", action="store_true", help="One object on stdout.")

    def handle(self, *args: Any, **options: Any) -> None:
        run = naming.training(options["training"])
        sae = Sae.objects.filter(training=run).first()
        if sae is None or not Path(sae.path).is_dir():
            raise CommandError(f"{run.name} has no SAE; it is {run.shown_status}.", returncode=2)
        folder = Path(options["folder"]).expanduser().resolve()
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise CommandError(f"{folder} is not empty; name a new folder.", returncode=2)
        try:
            files = copied(Path(sae.path), folder)
        except OSError as error:
            raise CommandError(f"It could not be written: {error}") from error
        told = {"folder": str(folder), "format": sae.format, "files": files}
        lines = [f"{name}  {digest}" for name, digest in files.items()]
        say = "\n".join([f"{sae.format} in {folder}", *lines])
        self.stdout.write(json.dumps(told) if options["json"] else say)


def copied(source: Path, target: Path) -> dict[str, str]:
    """Copy a folder's files; the SHA-256 of each, by name, as read from the copy.

    Raises OSError where the copy is not what was read; nothing is left behind then.
    """
    draft = target.with_name(f".{target.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        files = {}
        for path in sorted(path for path in source.iterdir() if path.is_file()):
            shutil.copyfile(path, draft / path.name)
            files[path.name] = _sha256(draft / path.name)
            if files[path.name] != _sha256(path):
                raise OSError(f"{path.name} was not copied as it is")
        if target.exists():  # empty; somebody may stand in it
            for name in files:
                (draft / name).rename(target / name)
            draft.rmdir()
        else:
            draft.rename(target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return files


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
