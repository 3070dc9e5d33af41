"""Long work in a thread, while this one keeps a lease."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from trainings.store import GoOn

TICK = 0.2
Found = TypeVar("Found")


class Ended(Exception):
    """Nobody waits for this work any more."""


def beside(work: Callable[[GoOn], Found], go_on: GoOn) -> Found:
    """What the work returns or raises.

    `go_on` is called a few times a second meanwhile, in this thread; what it raises ends the work,
    at the next moment in which that asks. The work must not use the database.
    """
    ended = threading.Event()

    def asked() -> None:
        if ended.is_set():
            raise Ended

    pool = ThreadPoolExecutor(1, thread_name_prefix="beside")
    doing = pool.submit(work, asked)
    try:
        while not wait([doing], TICK).done:
            go_on()
        return doing.result()
    finally:
        ended.set()
        pool.shutdown(wait=False)
