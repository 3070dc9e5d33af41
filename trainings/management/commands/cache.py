"""The activation cache in a terminal."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from trainings.cache import folder
from trainings.templatetags.studio import filesize, percent
from workers.engine.cache import CacheFolder, Entry, Eviction


class Command(BaseCommand):
    help = (
        "Show the activations kept for later trainings: what of which model, how full, last used, "
        "the limit, and what had to make room. SAESTUDIO_CACHE_GB sets the limit. Exit code: 0 "
        "done, 1 something in use was kept, 2 no such entry. "
        "Example: manage.py cache --remove 1f0c6b7d"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="One JSON object on stdout.")
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--clear", action="store_true", help="Delete all that no run uses.")
        what.add_argument("--remove", metavar="ID", help="Delete one entry, if no run uses it.")

    def handle(self, *args: Any, **options: Any) -> None:
        found = folder()
        try:
            if options["clear"]:
                self._clear(found)
            elif options["remove"]:
                self._remove(found, options["remove"])
        except OSError as error:
            raise CommandError(f"It could not be deleted: {error}") from error
        self.stdout.write(json.dumps(_facts(found)) if options["json"] else _table(found))

    def _clear(self, found: CacheFolder) -> None:
        _, kept = found.clear()
        if kept:
            raise CommandError(f"{kept} in use by a running training stayed; the rest is deleted.")

    def _remove(self, found: CacheFolder, id: str) -> None:
        fitting = [entry.id for entry in found.entries() if entry.id.startswith(id)]
        if len(fitting) != 1:
            says = "is no entry" if not fitting else "begins more than one id"
            raise CommandError(f"{id!r} {says} of the cache.", returncode=2)
        if not found.remove(fitting[0]):
            raise CommandError("A running training uses it; it was kept.")


def _facts(found: CacheFolder) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "folder": str(found.path),
        "limit_bytes": found.limit,
        "used_bytes": found.used(),
        "entries": [
            {
                "id": entry.id,
                **asdict(entry.manifest),
                "share": entry.share,
                "bytes": entry.bytes,
                "last_used": _time(entry.last_used).isoformat(),
                "in_use": entry.in_use,
            }
            for entry in found.entries()
        ],
        "evictions": [
            asdict(gone) | {"at": _time(gone.at).isoformat()} for gone in found.evictions()
        ],
    }


def _table(found: CacheFolder) -> str:
    entries = found.entries()
    limit = f"of {filesize(found.limit)}" if found.limit else "kept, and the cache is off"
    lines = [f"{filesize(found.used())} {limit} in {found.path}"]
    lines += [_line(entry) for entry in entries]
    evictions = found.evictions()
    if evictions:
        lines += ["", "Had to make room:", *map(_gone, evictions)]
    return "\n".join(lines)


def _line(entry: Entry) -> str:
    manifest, identity = entry.manifest, entry.manifest.identity
    used = "in use" if entry.in_use else f"last used {_time(entry.last_used):%Y-%m-%d %H:%M} UTC"
    what = f"{manifest.model}, {manifest.dataset}, layer {identity.layer} {identity.hook}"
    return f"{entry.id}  {what}  {percent(entry.share)}  {filesize(entry.bytes)}  {used}"


def _gone(eviction: Eviction) -> str:
    what = f"{eviction.model}, {eviction.dataset}, layer {eviction.layer} {eviction.hook}"
    return f"{_time(eviction.at):%Y-%m-%d %H:%M} UTC  {what}  {filesize(eviction.bytes)}"


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
