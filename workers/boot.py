"""Where a worker process begins: `dramatiq workers.boot --queues trainings`.

Prefetching is turned down before dramatiq reads it: a worker that waits on a run of days must not
hold the next one back from an idle worker.
"""

import os

os.environ.setdefault("dramatiq_queue_prefetch", "1")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "saestudio.settings")

import django

django.setup()

from dramatiq.middleware import Middleware  # noqa: E402 (Django first)

from workers import actors, supervisor  # noqa: E402
from workers.broker import broker  # noqa: E402


class SaveRunsAtShutdown(Middleware):
    """Asynchronous exceptions land anywhere, even inside a write; a flag is looked at in turn."""

    def before_worker_shutdown(self, broker: object, worker: object) -> None:
        supervisor.shutting_down.set()


broker().add_middleware(SaveRunsAtShutdown())

__all__ = ["actors"]
