"""The workers in a terminal, and draining them."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from trainings import fleet
from trainings.api.worker import told
from trainings.management.console import columns
from trainings.templatetags.studio import duration

COLUMNS = ("HOST", "WORKER", "STATE", "SEEN", "VERSION", "GPUS", "DOES")


class Command(BaseCommand):
    help = (
        "List the workers of all machines, or drain some: each hands over what it does and begins "
        "nothing more until it is told to take work again. Exit code: 0 done, 2 there is no such "
        "worker. Example: manage.py workers --drain gpu-box-2"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        wish = parser.add_mutually_exclusive_group()
        who = "A host, or one of its workers as HOST/WORKER."
        wish.add_argument("--drain", metavar="WHO", help=f"Drain. {who}")
        wish.add_argument("--take", metavar="WHO", help=f"Take work again. {who}")
        parser.add_argument("--json", action="store_true", help="One list of objects on stdout.")

    def handle(self, *args: Any, **options: Any) -> None:
        drains = options["drain"] is not None
        who = options["drain"] if drains else options["take"]
        if who is not None:
            # Those that are gone, too: who follows them in their place does as they were told.
            chosen = [member.worker for member in _members(who)]
            fleet.drain(chosen, wanted=drains)
        found = _members(who)
        if options["json"]:
            self.stdout.write(json.dumps([told(member) for member in found]))
            return
        self.stdout.write(columns(COLUMNS, [_row(member) for member in found]))


def _members(who: str | None) -> list[fleet.Member]:
    """Raises `CommandError` where nobody is called so."""
    found = fleet.members()
    if who is None:
        return found
    host, _, slot = who.partition("/")
    chosen = [m for m in found if m.worker.host == host and slot in ("", m.worker.slot)]
    if not chosen:
        hosts = ", ".join(sorted({member.worker.host for member in found})) or "none"
        raise CommandError(f"No worker is called {who!r}. Hosts: {hosts}.", returncode=2)
    return chosen


def _row(member: fleet.Member) -> tuple[str, ...]:
    worker = member.worker
    gpus = ", ".join(gpu["name"] for gpu in worker.gpus) or "none"
    seen = f"{duration(member.age)} ago"
    does = member.does or member.refusal
    return (worker.host, worker.slot, member.word, seen, worker.version, gpus, does)
