"""Says in the database that this process works, every few seconds, from a thread of its own."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Sequence

from django.db import Error, connection

from trainings.models import Worker

from . import gpus

EVERY = 15.0
logger = logging.getLogger(__name__)


def begin(kinds: Sequence[str]) -> threading.Thread:
    """The started thread, which ends with the process; of several kinds it has a row of each."""
    named = {uuid.uuid4(): kind for kind in kinds}
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
    while True:
        try:
            for pk, kind in named.items():
                facts = {"kind": kind, "host": socket.gethostname(), "pid": os.getpid()}
                Worker.objects.seen(pk, gpus=driver.newest(), **facts)
        except Error as error:
            # Then nobody can read it either; said at the next time.
            logger.debug("The pulse could not be written: %s", error)
        finally:
            # None is held between two beats: there may be more workers than connections.
            connection.close()
        pause.wait(EVERY)
