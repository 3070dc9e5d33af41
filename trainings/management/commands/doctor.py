"""Is everything there that the studio needs, and what to do where it is not."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import psutil
from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from redis.exceptions import RedisError

from trainings import fleet, logs, store
from trainings.models import Release, Worker
from trainings.templatetags.studio import filesize
from workers.broker import broker

LEAST_DISK, LEAST_MEMORY = 10 * 10**9, 4 * 10**9
LEAST_REDIS = (6, 2)
PACKAGES = ("torch", "transformers", "django", "channels", "dramatiq", "numba", "safetensors")
MARKS = {"ok": "ok     ", "warning": "warning", "failed": "FAILED "}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `advice` says what to do about it; empty where it is well."""

    what: str
    state: Literal["ok", "warning", "failed"]
    found: str
    advice: str = ""


class Command(BaseCommand):
    help = (
        "Look at Python, packages, database, Redis, workers, devices, memory, disk, store and "
        "settings, and say what to do where something is amiss. Exit code: 0 nothing failed, 1 "
        "something did. Example: manage.py doctor"
    )
    # What is wrong with the database is said by a finding.
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="One list of objects on stdout.")

    def handle(self, *args: Any, **options: Any) -> None:
        found = [finding for look in LOOKS for finding in look()]
        if options["json"]:
            self.stdout.write(json.dumps([asdict(finding) for finding in found]))
        else:
            for finding in found:
                self.stdout.write(f"{MARKS[finding.state]}  {finding.what}: {finding.found}")
                if finding.advice:
                    self.stdout.write(f"         {finding.advice}")
        if any(finding.state == "failed" for finding in found):
            raise SystemExit(1)


def _python() -> Iterator[Finding]:
    found = platform.python_version()
    fine = sys.version_info >= (3, 11)
    yield Finding(
        "Python",
        "ok" if fine else "failed",
        found,
        "" if fine else "Make the environment anew with Python 3.11 or newer.",
    )


def _packages() -> Iterator[Finding]:
    pins = _pins()
    there, other = [], []
    for name in PACKAGES:
        try:
            found = version(name)
        except PackageNotFoundError:
            yield Finding(name, "failed", "is not installed", "Run make studio, which installs it.")
            continue
        there.append(f"{name} {found}")
        pinned = pins.get(name)
        if pinned and found.partition("+")[0] != pinned:
            other.append(f"{name} {pinned}")
    if other:
        advice = "The tests pass with these: pip install --constraint constraints.txt --editable ."
        yield Finding("Packages", "warning", f"tested is {', '.join(other)}", advice)
    yield Finding("Packages", "ok", ", ".join(there))


def _pins() -> dict[str, str]:
    file = Path(settings.BASE_DIR, "constraints.txt")
    lines = file.read_text(encoding="utf-8").split() if file.exists() else []
    return {name.lower(): pin for name, _, pin in (line.partition("==") for line in lines) if pin}


def _database() -> Iterator[Finding]:
    names = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
    name = names.get(connection.vendor, connection.vendor)
    try:
        executor = MigrationExecutor(connection)
        behind = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError as error:
        advice = (
            f"See that {settings.HOME} can be written."
            if connection.vendor == "sqlite"
            else "See that PostgreSQL runs and DATABASE_URL names it."
        )
        yield Finding("Database", "failed", f"{name} cannot be used: {error}".strip(), advice)
        return
    if behind:
        yield Finding(
            "Database",
            "failed",
            f"{name} is {len(behind)} migrations behind",
            "Run manage.py migrate.",
        )
    else:
        yield Finding("Database", "ok", f"{name}, all migrations are there")


def _redis() -> Iterator[Finding]:
    start = (
        "See that it runs and REDIS_URL names it."
        if os.environ.get("REDIS_URL")
        else "make studio starts it; commands that train here do without."
    )
    try:
        facts = broker().client.info("server")
    except RedisError as error:
        yield Finding("Redis", "warning", f"does not answer: {error}", start)
        return
    found = str(facts["redis_version"])
    if tuple(int(part) for part in found.split(".")[:2]) < LEAST_REDIS:
        yield Finding("Redis", "failed", found, "Version 6.2 or newer is needed.")
    else:
        yield Finding("Redis", "ok", found)


_AGAIN = "Set that right, run manage.py migrate, and start it again."


def _workers() -> Iterator[Finding]:
    try:
        members, missing = fleet.members(), Worker.objects.missing()
    except DatabaseError:
        return  # said by the database's finding
    if missing:
        advice = "make studio starts them; docs/operations.md says how to start them by hand."
        yield Finding("Workers", "warning", f"not seen: {', '.join(missing)}", advice)
    for member in members:
        if member.state in ("drained", "draining"):
            advice = f"manage.py workers --take {member.worker.host} has it take work again."
            yield Finding("Worker", "warning", f"{member.worker} is drained", advice)
        elif member.state == "refused":
            yield Finding("Worker", "warning", f"{member.worker}. {member.refusal}", _AGAIN)
        elif member.state != "gone":
            yield Finding("Worker", "ok", str(member.worker))


def _devices() -> Iterator[Finding]:
    from workers import gpus

    try:
        import torch
    except (ImportError, OSError) as error:
        advice = "Run make studio, which installs it; or install it for your CUDA version."
        yield Finding("PyTorch", "failed", f"cannot be loaded: {error}", advice)
        return
    seen, usable = gpus.visible(), torch.cuda.device_count()
    if len(seen) > usable:
        yield Finding(
            "GPU",
            "failed",
            f"the driver has {len(seen)}, PyTorch {torch.__version__} can use {usable}",
            "Install a PyTorch build for your CUDA version: pytorch.org/get-started.",
        )
    for index in range(usable):
        facts = torch.cuda.get_device_properties(index)
        yield Finding("GPU", "ok", f"{facts.name}, {filesize(facts.total_memory)}")
    if not seen and not usable:
        yield Finding("GPU", "ok", f"none; trainings use {os.cpu_count()} processor cores")


def _memory() -> Iterator[Finding]:
    facts = psutil.virtual_memory()
    found = f"{filesize(facts.available)} of {filesize(facts.total)} free"
    if facts.available < LEAST_MEMORY:
        yield Finding("Memory", "warning", found, "Close other programs, or train a small SAE.")
    else:
        yield Finding("Memory", "ok", found)


def _disk() -> Iterator[Finding]:
    home = Path(settings.HOME)
    if not os.access(home, os.W_OK):
        yield Finding("Data folder", "failed", f"{home} cannot be written", "Give it to this user.")
        return
    with suppress(store.StoreError, DatabaseError):  # said by their own findings
        if reason := Release.objects.all().elsewhere(store.mark()):
            yield Finding("Artefacts", "failed", "they would lie where no other host looks", reason)
    usage = shutil.disk_usage(home)
    found = f"{filesize(usage.free)} free for {home}"
    if usage.free < LEAST_DISK:
        advice = "manage.py prune lists what could go; manage.py cache --clear empties the cache."
        yield Finding("Disk", "warning", found, advice)
    else:
        yield Finding("Disk", "ok", found)


def _store() -> Iterator[Finding]:
    if not store.on():
        return
    shown = logs.scrub(settings.STORE)
    try:
        store.check()
    except store.StoreError as error:
        advice = (
            "See that SAESTUDIO_STORE is right, that this host reaches it, and that its key may "
            "read, write, list and delete there; docs/operations.md says more."
        )
        yield Finding("Store", "failed", str(error), advice)
    else:
        yield Finding("Store", "ok", f"{shown}: an object was written, read and deleted")


def _settings() -> Iterator[Finding]:
    from saestudio.access.exposure import refusal

    try:
        reason = refusal(settings.BIND)
    except DatabaseError:
        return  # said by the database's finding
    if reason:
        yield Finding("Access", "failed", f"SAESTUDIO_BIND is {settings.BIND}", reason)
    else:
        yield Finding("Access", "ok", f"listens at {settings.BIND}:{settings.PORT}")


LOOKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _python,
    _packages,
    _database,
    _redis,
    _workers,
    _devices,
    _memory,
    _disk,
    _store,
    _settings,
)
