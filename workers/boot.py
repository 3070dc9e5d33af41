"""Where a worker process begins: `dramatiq workers.boot --queues trainings`."""

import os
import signal
import threading

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "saestudio.settings")
django.setup()

from dramatiq import Worker  # noqa: E402 (Django first)
from dramatiq.middleware import Middleware  # noqa: E402

from workers import actors, supervisor  # noqa: E402
from workers.broker import broker  # noqa: E402
from workers.engine.parent import die_with_parent  # noqa: E402


class OneRunAtATime(Middleware):
    """Fits dramatiq's worker to jobs that take days."""

    def after_process_boot(self, broker: object) -> None:
        """Where dramatiq's own process is killed, its worker saves what it trains and ends, too.

        The kernel tells it once per thread of its parent, and dramatiq takes a second SIGTERM for
        an order to drop everything.
        """
        told = threading.Event()

        def end_once(*_: object) -> None:
            if not told.is_set():
                told.set()
                os.kill(os.getpid(), signal.SIGTERM)

        signal.signal(signal.SIGUSR2, end_once)
        die_with_parent(signal.SIGUSR2)

    def before_worker_boot(self, broker: object, worker: Worker) -> None:
        """A worker busy with one run must not hold the next one back from an idle worker."""
        worker.queue_prefetch = 1

    def before_worker_shutdown(self, broker: object, worker: Worker) -> None:
        """Asynchronous exceptions land anywhere, even inside a write; a flag is looked at."""
        supervisor.shutting_down.set()


broker().add_middleware(OneRunAtATime())

__all__ = ["actors"]
