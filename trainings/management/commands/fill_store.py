"""Bring into the store what was made before there was one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from trainings import store
from trainings.models import Checkpoint, Dataset, LanguageModel, Sae, Tokenization
from trainings.store import StoreError
from workers.engine.config.sae_job import FORMATS


class Command(BaseCommand):
    help = (
        "Put into the store (SAESTUDIO_STORE) all models, datasets, tokenizations, checkpoints and "
        "SAEs of this host's data folder; what is there already is not sent again. Exit code: 0 "
        "done, 1 something could not be sent, 2 there is no store. Example: manage.py fill_store"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="One object on stdout.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not store.on():
            raise CommandError("Set SAESTUDIO_STORE to the store's address.", returncode=2)
        sent, failed = [], {}
        for path in _artefacts():
            if not path.exists():
                continue
            try:
                # What is there may be newer than this host's copy.
                if not store.has(path):
                    store.put(path)
            except (StoreError, OSError) as error:
                failed[str(path)] = str(error)
                self.stderr.write(f"{path}: {error}")
            else:
                sent.append(str(path))
                if not options["json"]:
                    self.stdout.write(str(path))
        if options["json"]:
            self.stdout.write(json.dumps({"in_store": sent, "failed": failed}))
        else:
            self.stdout.write(f"{len(sent)} are in the store, {len(failed)} are not.")
        if failed:
            raise SystemExit(1)


def _artefacts() -> Iterator[Path]:
    """All that rows stand for, whether it is here or not."""
    for rows in (LanguageModel, Dataset, Tokenization):
        for row in rows.objects.ready():
            yield row.folder
    for path in Checkpoint.objects.usable().values_list("path", flat=True):
        yield Path(path)
    for sae in Sae.objects.visible():
        yield sae.folder
        yield sae.features_path
        for format in FORMATS:
            yield sae.export_path(format)
