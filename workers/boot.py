"""Where a worker process begins: `dramatiq workers.boot --queues trainings`."""

import multiprocessing
import os
import signal
import threading
from types import FrameType

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "saestudio.settings")
django.setup()

from dramatiq import Worker  # noqa: E402 (Django first)
from dramatiq.middleware import Middleware  # noqa: E402

from workers import actors, fleet, pulse  # noqa: E402
from workers.broker import JOBS, SAES, TRAININGS, broker  # noqa: E402
from workers.engine.parent import die_with_parent  # noqa: E402

# What a worker that takes messages of a queue is.
KIND = {TRAININGS: "trainer", JOBS: "jobs", SAES: "saes"}


class OneRunAtATime(Middleware):
    """Fits dramatiq's worker to jobs that take days."""

    def after_process_boot(self, broker: object) -> None:
        """Where dramatiq's own process is killed, its worker saves what it trains and ends, too.

        It is told to end once, however many tell it: the kernel does so for each thread of the
        parent, a service manager signals parent and worker, the parent hands the signal on. A
        second one would be taken for an order to drop everything.
        """
        first, told = signal.getsignal(signal.SIGTERM), threading.Event()
        assert callable(first)

        def end_once(number: int, frame: FrameType | None) -> None:
            if not told.is_set():
                told.set()
                first(number, frame)

        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, end_once)
        parent = multiprocessing.parent_process()
        die_with_parent(signal.SIGTERM, parent.pid if parent and parent.pid else os.getppid())

    def before_worker_boot(self, broker: object, worker: Worker) -> None:
        """A worker busy with one run must not hold the next one back from an idle worker."""
        worker.queue_prefetch = 1
        # Before the first message is taken: who begins something has been enlisted.
        queues = worker.consumer_whitelist or KIND
        pulse.begin([kind for queue, kind in KIND.items() if queue in queues])

    def before_worker_shutdown(self, broker: object, worker: Worker) -> None:
        """Asynchronous exceptions land anywhere, even inside a write; a flag is looked at."""
        fleet.shutting_down.set()


broker().add_middleware(OneRunAtATime())

__all__ = ["actors"]
