"""Hints to open pages that something changed. Losing one costs nothing: pages ask over HTTP.

Publishing happens on one loop thread kept alive, because a fresh event loop per call opens a Redis
connection each time. It never raises and never waits.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
from concurrent.futures import Future, wait
from typing import Any

from channels.layers import get_channel_layer
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

ALL = "trainings"
MAX_WAITING = 64


def group(training_id: object) -> str:
    """The group of those who watch one run."""
    return f"training.{training_id}"


def envelope(event: str, training_id: object, seq: int, data: dict[str, Any]) -> dict[str, Any]:
    """One event as it goes over the socket; see docs/api.md."""
    return {"event": event, "training_id": str(training_id), "seq": seq, "data": data}


class Publisher:
    """Sends envelopes to their groups from a thread of its own; drops them when Redis is slow."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._waiting: set[Future[None]] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._loop.run_forever, name="publisher", daemon=True).start()

    def publish(self, message: dict[str, Any]) -> None:
        with self._lock:
            if len(self._waiting) >= MAX_WAITING:
                logger.warning("Redis is slow: dropped %s", message["event"])
                return
            future = asyncio.run_coroutine_threadsafe(_send(message), self._loop)
            self._waiting.add(future)
        future.add_done_callback(self._sent)

    def drain(self, timeout: float = 5.0) -> None:
        """Wait for what was published, so long at most in all; before a process ends."""
        wait(list(self._waiting), timeout)

    def _sent(self, future: Future[None]) -> None:
        with self._lock:
            self._waiting.discard(future)


async def _send(message: dict[str, Any]) -> None:
    layer = get_channel_layer()
    assert layer is not None, "settings name the channel layer"
    try:
        for name in (ALL, group(message["training_id"])):
            await layer.group_send(name, {"type": "training.event", "message": message})
    except (RedisError, OSError) as error:
        logger.warning("An event could not be published: %s", error)


_publisher: Publisher | None = None
_publisher_lock = threading.Lock()


def publisher() -> Publisher:
    """This process's publisher, made at its first use (never before a fork)."""
    global _publisher
    with _publisher_lock:
        if _publisher is None:
            _publisher = Publisher()
            # A command may end before its last word is out.
            atexit.register(_publisher.drain)
        return _publisher


def publish(event: str, training_id: object, seq: int, data: dict[str, Any]) -> None:
    publisher().publish(envelope(event, training_id, seq, data))
