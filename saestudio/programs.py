"""The studio's programs and their supervisor: Redis, web, workers and sweeper under supervisord.

supervisord starts again what dies, and ends all of them when it ends.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from workers import gpus

from . import redis_server


@dataclass(frozen=True)
class Program:
    """One process to be kept running. `patience` is how many seconds it may take to end."""

    name: str
    command: str
    patience: int = 10
    priority: int = 100
    environment: tuple[tuple[str, str], ...] = ()


_WORKER = ("-m", "dramatiq", "workers.boot", "--processes", "1", "--threads", "1", "--queues")
# What follows `python` for each program; the web's address is filled in.
COMMANDS = {
    "web": (
        "-m",
        "saestudio.server",
        "--bind",
        "{bind}",
        "--port",
        "{port}",
        "--no-server-name",
        "saestudio.asgi:application",
    ),
    "trainer": (*_WORKER, "trainings"),
    "jobs": (*_WORKER, "jobs"),
    "saes": (*_WORKER, "saes"),
    "sweeper": ("-m", "workers.sweeper"),
}
# A run that is told to end writes its checkpoint first.
PATIENCE = {"trainer": 120, "jobs": 30, "saes": 30}


def programs(kinds: Sequence[str] = tuple(COMMANDS)) -> list[Program]:
    """What this machine runs of these kinds; Redis only where no other one is named."""
    found = [
        Program(name, _command(COMMANDS[kind]), PATIENCE.get(kind, 10), environment=environment)
        for kind in kinds
        for name, environment in (trainers() if kind == "trainer" else {kind: ()}).items()
    ]
    if not os.environ.get("REDIS_URL"):
        config = redis_server.write_config(settings.REDIS_FOLDER)
        # Last to be stopped: the others still talk to it while they end.
        found.append(Program("redis", f"{redis_server.binary()} {config}", priority=1))
    return found


def trainers() -> dict[str, tuple[tuple[str, str], ...]]:
    """One trainer per GPU, which sees no other; without a GPU they share the cores.

    SAESTUDIO_GPUS_PER_TRAINER gives each several, for runs that need them. SAESTUDIO_TRAINERS
    gives another number of trainers: fewer leave GPUs alone, more share them.
    """
    found, each = gpus.visible(), settings.GPUS_PER_TRAINER
    groups = [",".join(found[n : n + each]) for n in range(0, len(found), each)]
    count = settings.TRAINERS or len(groups) or 1
    if count == 1 and len(groups) <= 1:
        return {"trainer": ()}
    threads = str(max(1, _cores() // count))
    shared = tuple(
        (name, threads)
        for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
        if name not in os.environ
    )
    return {
        f"trainer-{n}": shared
        + ((("CUDA_VISIBLE_DEVICES", groups[n % len(groups)]),) if groups else ())
        for n in range(count)
    }


def write_supervisor_config(kinds: Sequence[str] = tuple(COMMANDS), name: str = "") -> Path:
    """The configuration file that runs the programs of these kinds.

    Logs go to the data folder; `name` keeps apart what several machines have there.
    """
    place = Path(settings.HOME, name)
    logs = place / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    path = place / "supervisord.conf"
    parts = [
        f"[supervisord]\nnodaemon=true\nsilent=true\nlogfile={logs}/supervisord.log\n"
        f"pidfile={place}/supervisord.pid\ndirectory={settings.BASE_DIR}\n"
    ]
    running = sorted(programs(kinds), key=lambda p: p.priority)
    parts += [
        f"[program:{p.name}]\ncommand={p.command}\npriority={p.priority}\n"
        f"autorestart=true\nstartretries=1000\nstartsecs=1\n"
        f"stopwaitsecs={p.patience}\nstopasgroup=false\nkillasgroup=true\n"
        f"redirect_stderr=true\nstdout_logfile={logs}/{p.name}.log\n"
        "stdout_logfile_maxbytes=10MB\nstdout_logfile_backups=3\n"
        f"environment={_environment(p)}\n"
        for p in running
    ]
    # Those of a group are told to end at once; groups end one after the other, and several
    # checkpoints one after the other would take longer than whoever ends supervisord waits.
    together = [p.name for p in running if p.name != "redis"]
    parts.append(f"[group:studio]\nprograms={','.join(together)}\n")
    # supervisord expands %; no value here means to use that.
    path.write_text("\n".join(parts).replace("%", "%%"), encoding="utf-8")
    return path


def _cores() -> int:
    """Those that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def _environment(program: Program) -> str:
    return ",".join(f'{name}="{value}"' for name, value in program.environment)


def _command(words: tuple[str, ...]) -> str:
    filled = [word.format(bind=settings.BIND, port=settings.PORT) for word in words]
    return shlex.join([sys.executable, *filled])
