"""Says in the database that this process works, every few seconds, from a thread of its own."""

from __future__ import annotations

import logging
import os
import socket
import threading
import uuid

from django.db import DatabaseError, connection

from trainings.models import Worker

from . import gpus

EVERY = 15.0
logger = logging.getLogger(__name__)


def begin(kind: str) -> threading.Thread:
    """The started thread; it ends with the process."""
    thread = threading.Thread(target=_beat, args=(kind, uuid.uuid4()), name="pulse", daemon=True)
    thread.start()
    return thread


def _beat(kind: str, pk: uuid.UUID) -> None:
    pause = threading.Event()
    while True:
        try:
            found = gpus.memory() if kind == Worker.Kind.TRAINER else []
            facts = {"kind": kind, "host": socket.gethostname(), "pid": os.getpid()}
            Worker.objects.seen(pk, gpus=found, **facts)
        except DatabaseError as error:
            # Then nobody can read it either; said at the next time.
            logger.debug("The pulse could not be written: %s", error)
        finally:
            # None is held between two beats: there may be more workers than connections.
            connection.close()
        pause.wait(EVERY)
