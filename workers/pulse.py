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
# For the first beat: before it this worker does not know whether its place is drained.
FIRST_WITHIN = 10.0
logger = logging.getLogger(__name__)


def begin(kinds: Sequence[str]) -> threading.Thread:
    """The started thread, which ends with the process; of several kinds it has a row of each.

    It has tried to say so once when this returns.
    """
    named, tried = {uuid.uuid4(): kind for kind in kinds}, threading.Event()
    fleet.enlist(list(named))
    thread = threading.Thread(target=_beat, args=(named, tried), name="pulse", daemon=True)
    thread.start()
    tried.wait(FIRST_WITHIN)
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


def _beat(named: dict[uuid.UUID, str], tried: threading.Event) -> None:
    pause, driver = threading.Event(), _Driver()
    if Worker.Kind.TRAINER in named.values():
        driver.begin()
    said = -EVERY
    while True:
        try:
            if time.monotonic() - said >= EVERY:
                _say(named, driver.newest())
                said = time.monotonic()
            fleet.look()
        except Error as error:
            # Then nobody can read it either; said at the next time.
            logger.debug("The pulse could not be written: %s", error)
        finally:
            # None is held between two beats: there may be more workers than connections.
            connection.close()
            tried.set()
        pause.wait(LOOK_EVERY)


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
