"""What the commands share that register a row of the catalog and make it ready."""

from __future__ import annotations

import json
import sys
import time
from typing import Any, TypeVar

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import UniqueConstraint

from trainings import nudge
from trainings.models.catalog import Prepared, Status
from workers import catalog, fleet

from .console import Display, quiet

Row = TypeVar("Row", bound=Prepared)
_LOOK_EVERY = 1.0


def _told(row: Prepared) -> str:
    """What `--json` prints: its columns."""
    names = [field.attname for field in row._meta.concrete_fields]
    values = {name: getattr(row, name) for name in names}
    return json.dumps({"kind": row.kind, **values}, default=str)


class PrepareCommand(BaseCommand):
    """Registers a row, or finds it, and does its work here unless a worker should."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--no-wait",
            action="store_true",
            help="Only register it and leave the work to a running studio.",
        )
        parser.add_argument(
            "--json", action="store_true", help="Print one JSON object at the end on stdout."
        )

    def registered(self, new: Row, but_for: tuple[str, ...] = ()) -> Row:
        """The row that says the same, or this one, saved. Raises `CommandError`.

        `but_for` are columns in which a failed one may be corrected, and a ready one not.
        """
        (constraint,) = (c for c in new._meta.constraints if isinstance(c, UniqueConstraint))
        same = {name: getattr(new, name) for name in constraint.fields}
        if same.get("revision") == "":
            # Without one asked for, whichever commit was pinned at the first time will do.
            del same["revision"]
        rows = type(new).objects
        found: Row | None = rows.filter(**same).first()
        if found is not None:
            return self._again(found, {name: getattr(new, name) for name in but_for})
        try:
            new.full_clean()
        except ValidationError as error:
            lines = [f"{n}: {' '.join(m)}" for n, m in error.message_dict.items()]
            raise CommandError("\n".join(lines), returncode=2) from error
        new.save(force_insert=True)
        return new

    def _again(self, found: Row, wanted: dict[str, Any]) -> Row:
        differs = {name: getattr(found, name) for name in wanted} != wanted
        if differs and found.status != Status.FAILED:
            raise CommandError(
                f"{found} is registered already, with another {' or '.join(wanted)}.", returncode=2
            )
        rows = type(found).objects
        rows.filter(pk=found.pk).update(**wanted)
        rows.retry(found.pk)
        return found

    def see_through(self, row: Prepared, options: dict[str, Any]) -> None:
        """Make the row ready here; or, if a worker has it, watch. Raises `CommandError`."""
        as_json = options["json"]
        if options["no_wait"]:
            nudge.prepare(row)
            self.stdout.write(_told(row) if as_json else f"{row.pk}  {row}  {row.status}")
            return
        label: Any = row._meta.model_name
        stream = sys.stderr if as_json else sys.stdout
        try:
            with quiet(options["verbosity"]), Display(stream, str(row)) as display:
                catalog.prepare(label, str(row.pk), fleet.name(), display.update)
                self._watch(row, display)
        except KeyboardInterrupt as error:
            raise CommandError(
                "Interrupted; the same command begins anew.", returncode=130
            ) from error
        if row.status == Status.FAILED:
            raise CommandError(row.error_message)
        text = _told(row) if as_json else self.style.SUCCESS(f"{row.pk}  {row}  {self.facts(row)}")
        self.stdout.write(text)

    def facts(self, row: Any) -> str:
        """What is known of the row now, in one line."""
        raise NotImplementedError

    def _watch(self, row: Prepared, display: Display) -> None:
        """Until the row is ready or failed, whoever works on it."""
        row.refresh_from_db()
        while row.status in (Status.PENDING, Status.RUNNING):
            note = row.progress_note or f"waiting for {row.worker or 'a worker'}"
            display.update(row.progress, note)
            time.sleep(_LOOK_EVERY)
            row.refresh_from_db()
