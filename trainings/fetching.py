"""What a page or a download needs of the store, fetched in the background: no request waits for it.

Without a store, and for what is on this host already, nothing is done.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from . import store
from .store import Absent

# What is small is here by then, and nobody is told to wait for it.
GRACE = 0.3
# Seconds for which an answer of the store counts, good or bad.
FRESH = 10.0
_AT_ONCE, _MOST = 2, 500
BEING_FETCHED = "It is being fetched from the store; it will be here in a moment."


class NotHere(Exception):
    """It is not on this host, for now; the message says why."""


@dataclass(frozen=True)
class _Asked:
    future: Future[None]
    at: float

    @property
    def counts(self) -> bool:
        return not self.future.done() or time.monotonic() - self.at < FRESH


_asked: dict[object, _Asked] = {}
_lock = threading.Lock()


@lru_cache(maxsize=2)
def _pool(pid: int, name: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_AT_ONCE, thread_name_prefix=name)


def why_not_here(path: Path, *, newest: bool = False) -> str:
    """Empty once it is here, or if it is nowhere; else that it comes, or why it cannot.

    `newest`: a copy counts only as long as the store has nothing newer. An older one serves where
    the store is away.
    """
    if not store.on():
        return ""
    if path.exists() and not newest:
        store.fetch(path)  # says that it was used
        return ""
    fetch = partial(store.fetch, path, newest=newest)
    asked = _ask((path, newest), "fetch", fetch)
    if not wait([asked], GRACE).done:
        return "" if path.exists() else BEING_FETCHED
    error = asked.exception()
    if error is None or isinstance(error, Absent) or path.exists():
        return ""
    return f"It cannot be fetched from the store: {error}"


def demand(path: Path, *, newest: bool = False) -> None:
    """Raises `NotHere` where it is in the store and not here yet, or cannot be had."""
    if why := why_not_here(path, newest=newest):
        raise NotHere(why)


def check() -> Future[None]:
    """Whether the store takes and gives, as it was found within the last seconds."""
    return _ask("check", "check", store.check)


def _ask(key: object, pool: str, work: Callable[[], None]) -> Future[None]:
    with _lock:
        known = _asked.get(key)
        if known is None or not known.counts:
            if len(_asked) >= _MOST:
                for old in [each for each, found in _asked.items() if not found.counts]:
                    del _asked[old]
            known = _Asked(_pool(os.getpid(), pool).submit(work), time.monotonic())
            _asked[key] = known
        return known.future
