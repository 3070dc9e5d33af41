"""Says in the database that this process works, every few seconds, from a thread of its own.

The same thread sees whether an administrator drains this worker.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Sequence

import psutil
from django.conf import settings
from django.db import Error, connection

from trainings.models import Worker

from . import fleet, gpus, release

EVERY = 15.0
# How often it is seen whether this worker drains.
LOOK_EVERY = 2.0
logger = logging.getLogger(__name__)


def begin(kinds: Sequence[str]) -> threading.Thread:
    """The started thread, which ends with the process; of several kinds it has a row of each.

    The first word is said here, so that this process knows whether its place is drained.
    """
    named = {uuid.uuid4(): kind for kind in kinds}
    fleet.enlist(list(named))
    _try(named, [])
    thread = threading.Thread(target=_beat, args=(named,), name="pulse", daemon=True)
    thread.start()
    return thread


class _Driver:
    """What the GPUs' driver said last, asked in a thread of its own: it may never answer."""

    def __init__(self) -> None:
        self._told: tuple[float, list[gpus.Gpu]] = (0.0, [])

    def begin(self) -> None:
        threading.Thread(target=self._ask, name="gpus", daemon=True).start()

    def newest(self) -> list[gpus.Gpu]:
        """Nothing once it is old."""
        at, found = self._told
        return found if time.monotonic() - at < 3 * EVERY else []

    def _ask(self) -> None:
        pause = threading.Event()
        while True:
            found = gpus.memory()
            self._told = (time.monotonic(), found)
            pause.wait(EVERY)


def _beat(named: dict[uuid.UUID, str]) -> None:
    pause, driver = threading.Event(), _Driver()
    if Worker.Kind.TRAINER in named.values():
        driver.begin()
    told: list[gpus.Gpu] = []
    said = -EVERY
    while True:
        pause.wait(LOOK_EVERY)
        found = driver.newest()
        due = found != told or time.monotonic() - said >= EVERY
        if _try(named, found if due else None) and due:
            told, said = found, time.monotonic()


def _try(named: dict[uuid.UUID, str], found: list[gpus.Gpu] | None) -> bool:
    """Say what was found, if anything, and see whether this worker drains."""
    try:
        if found is not None:
            _say(named, found)
        fleet.look()
    except Error as error:
        # Then nobody can read it either; said at the next time.
        logger.debug("The pulse could not be written: %s", error)
        return False
    finally:
        # None is held between two beats: there may be more workers than connections.
        connection.close()
    return True


def _say(named: dict[uuid.UUID, str], found: list[gpus.Gpu]) -> None:
    memory = psutil.virtual_memory()
    now = {"gpus": found, "memory_available": memory.available}
    for pk, kind in named.items():
        Worker.objects.seen(
            pk,
            now,
            kind=kind,
            host=socket.gethostname(),
            pid=os.getpid(),
            slot=_slot(kind),
            version=release.version(),
            cores=psutil.cpu_count() or 0,
            memory_total=memory.total,
        )


def _slot(kind: str) -> str:
    """As the service manager calls it: its successor after a crash has the same."""
    return (settings.SLOT or os.environ.get("SUPERVISOR_PROCESS_NAME") or kind)[:100]
