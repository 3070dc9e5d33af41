"""The studio's programs and their supervisor: Redis, web, workers and sweeper under supervisord.

supervisord starts again what dies, and ends all of them when it ends.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from . import redis_server


@dataclass(frozen=True)
class Program:
    """One process to be kept running. `patience` is how many seconds it may take to end."""

    name: str
    command: str
    patience: int = 10
    priority: int = 100


_WORKER = ("-m", "dramatiq", "workers.boot", "--processes", "1", "--threads", "1", "--queues")
# What follows `python` for each program; the web's address is filled in.
COMMANDS = {
    "web": (
        "-m",
        "daphne",
        "--bind",
        "{bind}",
        "--port",
        "{port}",
        "--no-server-name",
        "saestudio.asgi:application",
    ),
    "trainer": (*_WORKER, "trainings"),
    "jobs": (*_WORKER, "jobs"),
    "sweeper": ("-m", "workers.sweeper"),
}
# A run that is told to end writes its checkpoint first.
PATIENCE = {"trainer": 120, "jobs": 30}


def programs() -> list[Program]:
    """What this machine runs; Redis only where no other one is named."""
    found = [
        Program(name, _command(words), patience=PATIENCE.get(name, 10))
        for name, words in COMMANDS.items()
    ]
    if not os.environ.get("REDIS_URL"):
        config = redis_server.write_config(settings.REDIS_FOLDER)
        # Last to be stopped: the others still talk to it while they end.
        found.append(Program("redis", f"{redis_server.binary()} {config}", priority=1))
    return found


def write_supervisor_config() -> Path:
    """The configuration file that runs all programs; logs go to the data folder."""
    logs = settings.HOME / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    path = Path(settings.HOME, "supervisord.conf")
    parts = [
        f"[supervisord]\nnodaemon=true\nsilent=true\nlogfile={logs}/supervisord.log\n"
        f"pidfile={settings.HOME}/supervisord.pid\ndirectory={settings.BASE_DIR}\n"
    ]
    parts += [
        f"[program:{p.name}]\ncommand={p.command}\npriority={p.priority}\n"
        f"autorestart=true\nstartretries=1000\nstartsecs=1\n"
        f"stopwaitsecs={p.patience}\nstopasgroup=false\nkillasgroup=true\n"
        f"redirect_stderr=true\nstdout_logfile={logs}/{p.name}.log\n"
        "stdout_logfile_maxbytes=10MB\nstdout_logfile_backups=3\n"
        for p in sorted(programs(), key=lambda p: p.priority)
    ]
    # supervisord expands %; no value here means to use that.
    path.write_text("\n".join(parts).replace("%", "%%"), encoding="utf-8")
    return path


def _command(words: tuple[str, ...]) -> str:
    filled = [word.format(bind=settings.BIND, port=settings.PORT) for word in words]
    return shlex.join([sys.executable, *filled])
