"""Run workers on a machine that joins a studio elsewhere."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError, CommandParser
from django.utils.text import slugify

from saestudio.programs import COMMANDS, write_supervisor_config

KINDS = [kind for kind in COMMANDS if kind != "web"]


class Command(BaseCommand):
    help = (
        "Run workers on this machine for a studio whose database and Redis are elsewhere, and "
        "start again what dies: a trainer for each GPU, or else what is named. They end in good "
        "order with this command. Example: manage.py work trainer saes"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "kinds",
            nargs="*",
            choices=[*KINDS, []],
            metavar="kind",
            help=f"{', '.join(KINDS)}. Default: trainer.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        missing = [name for name in ("DATABASE_URL", "REDIS_URL") if not os.environ.get(name)]
        if missing:
            raise CommandError(
                f"Set {' and '.join(missing)} to those of the studio that this machine is to work "
                "for. On one machine, `make studio` starts everything."
            )
        kinds = list(dict.fromkeys(options["kinds"])) or ["trainer"]
        host = slugify(socket.gethostname()) or "host"
        config = write_supervisor_config(kinds, str(Path("hosts", host)))
        self.stdout.write(
            f"{', '.join(kinds)} on {host}; logs lie in {settings.HOME / 'hosts' / host / 'logs'}."
        )
        self.stdout.flush()
        # In this process's place: whoever ends it ends them in good order.
        words = [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)]
        os.chdir(settings.BASE_DIR)
        os.execv(sys.executable, words)
