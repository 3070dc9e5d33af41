"""Make room: what nobody needs any more, listed first and deleted when told to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models.functions import Now

from trainings import store, wishes
from trainings.management import copies, naming
from trainings.management.copies import Candidate, bytes_of
from trainings.models import Checkpoint, Dataset, LanguageModel, Sae, Tokenization, Training
from trainings.models.transitions import ENDED
from trainings.store import StoreError
from trainings.templatetags.studio import filesize

FOLDERS: dict[str, Any] = {
    "trainings": Training,
    "saes": Sae,
    **{kind.FOLDER: kind for kind in (LanguageModel, Dataset, Tokenization)},
}


class Command(BaseCommand):
    help = (
        "List what could be deleted, and delete it with --yes: folders that no row stands for, "
        "checkpoints of completed trainings but the newest and the pinned, whole trainings that "
        "ended long ago, unless another one is about to start from their SAE, and this host's "
        "copies of what is in the store. Exit code: 0 done, "
        "1 something could not be deleted, 2 nothing was chosen. "
        "Example: manage.py prune --orphans --checkpoints --yes"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--orphans", action="store_true", help="Folders without a row.")
        parser.add_argument(
            "--checkpoints",
            action="store_true",
            help="Of completed trainings, all but the newest and those that are pinned.",
        )
        parser.add_argument("--status", choices=ENDED, action="append", help="Whole trainings.")
        parser.add_argument(
            "--older-than", type=int, metavar="DAYS", help="With --status: since they ended."
        )
        parser.add_argument(
            "--unused",
            type=int,
            metavar="DAYS",
            help="This host's copies of what is in the store, not used for so long.",
        )
        parser.add_argument("--yes", action="store_true", help="Delete; else only list.")
        parser.add_argument("--json", action="store_true", help="One object on stdout.")

    def handle(self, *args: Any, **options: Any) -> None:
        unused = options["unused"]
        if (
            not (options["orphans"] or options["checkpoints"] or options["status"])
            and unused is None
        ):
            raise CommandError(
                "Choose --orphans, --checkpoints, --status or --unused.", returncode=2
            )
        if unused is not None and (unused < 0 or not store.on()):
            raise CommandError(
                "--unused is a number of days, where SAESTUDIO_STORE is set.", returncode=2
            )
        days = options["older_than"]
        if days is not None and (days < 0 or not options["status"]):
            raise CommandError("--older-than is a number of days, with --status.", returncode=2)
        try:
            found = list(_candidates(options))
        except StoreError as error:
            raise CommandError(str(error)) from error
        failed = {}
        for candidate in found if options["yes"] else ():
            try:
                candidate.remove()
            except (OSError, StoreError) as error:
                failed[candidate.what] = str(error)
        self._tell(found, failed, options)
        if failed:
            raise SystemExit(1)

    def _tell(
        self, found: list[Candidate], failed: dict[str, str], options: dict[str, Any]
    ) -> None:
        total = sum(candidate.bytes for candidate in found)
        if options["json"]:
            items = [{"kind": c.kind, "what": c.what, "bytes": c.bytes} for c in found]
            told = {"items": items, "bytes": total, "deleted": options["yes"], "failed": failed}
            self.stdout.write(json.dumps(told))
            return
        for candidate in found:
            why = f"  not deleted: {failed[candidate.what]}" if candidate.what in failed else ""
            size = filesize(candidate.bytes)
            self.stdout.write(f"{candidate.kind:10}  {size:>9}  {candidate.what}{why}")
        done = "deleted" if options["yes"] else "could be deleted; --yes does it"
        self.stdout.write(f"{len(found)} items, {filesize(total)}: {done}.")


def _candidates(options: dict[str, Any]) -> Iterator[Candidate]:
    if options["orphans"]:
        yield from _orphans()
    if options["checkpoints"]:
        yield from _checkpoints()
    if options["status"]:
        yield from _trainings(options["status"], options["older_than"])
    if options["unused"] is not None:
        yield from copies.unused(options["unused"])
        yield from copies.thinned_elsewhere()
        yield from copies.left_over()


def _orphans() -> Iterator[Candidate]:
    for name, rows in FOLDERS.items():
        # First the folders: a row made after that has none among them.
        there = sorted(path for path in Path(settings.HOME, name).glob("*") if path.is_dir())
        stored = _stored(name)
        known = {str(pk) for pk in rows.objects.values_list("pk", flat=True)}
        for path in there:
            if _row_of(path) not in known:
                yield Candidate("folder", str(path), bytes_of(path), _removing(path, rows))
        for path in stored:
            if _row_of(path) not in known and path not in there:
                size = store.bytes_below(path)
                yield Candidate("in store", str(path), size, _removing(path, rows))


def _stored(name: str) -> list[Path]:
    """What the store has of a kind."""
    folder = Path(settings.HOME, name)
    return [folder / child for child in store.children(folder)]


def _row_of(path: Path) -> str:
    """The id that a folder is named by; that of a preparation goes on with `.attempt.part`."""
    return path.name.partition(".")[0]


def _checkpoints() -> Iterator[Candidate]:
    for run in Training.objects.visible().filter(status="completed"):
        newest = Checkpoint.objects.of_this_run(run).usable().first()
        others = run.checkpoints.filter(pinned=False).exclude(pk=newest.pk if newest else None)
        for checkpoint in others:
            what = f"{run.name}, step {checkpoint.step:,} ({checkpoint.path or 'without files'})"
            yield Candidate("checkpoint", what, checkpoint.size_bytes, _forgetting(checkpoint))


def _trainings(status: list[str], days: int | None) -> Iterator[Candidate]:
    needed = Training.objects.unbegun().filter(started_from__training__isnull=False)
    runs = Training.objects.visible().filter(status__in=status)
    runs = runs.exclude(pk__in=needed.values("started_from__training"))
    if days is not None:
        runs = runs.filter(completed_at__lt=Now() - timedelta(days=days))
    for run in runs:
        what = f"{run.name} ({run.pk}, {run.status})"
        size = max(bytes_of(run.folder), store.bytes_below(run.folder))
        yield Candidate("training", what, size, _deleting(run))


def _removing(path: Path, rows: Any) -> Callable[[], object]:
    def remove() -> None:
        row = naming.by_id(_row_of(path))
        if row is None or not rows.objects.filter(row).exists():
            shutil.rmtree(path, onerror=wishes.unless_gone)
            store.discard(path)

    return remove


def _forgetting(checkpoint: Checkpoint) -> Callable[[], object]:
    def remove() -> None:
        # The row first, unless it was pinned meanwhile: a row stands for files that are there.
        gone = Checkpoint.objects.filter(pk=checkpoint.pk, pinned=False).delete()[0]
        if gone and checkpoint.path:
            shutil.rmtree(checkpoint.path, onerror=wishes.unless_gone)
            store.discard(Path(checkpoint.path))

    return remove


def _deleting(run: Training) -> Callable[[], object]:
    """The row and its files, without a worker; nothing where it was started again meanwhile."""

    def remove() -> None:
        if Training.objects.request_delete(run.pk, status=run.status, attempt=run.attempt):
            wishes.discard(run.pk)

    return remove
