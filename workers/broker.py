"""The message broker: Redis, told how long jobs behave.

A message is only a nudge that carries an id. The database says what there is to do, so a message
that is lost costs time (the sweeper sends another) and one that comes twice costs nothing.
"""

from __future__ import annotations

from typing import Final

import dramatiq
from django.conf import settings
from django.db import close_old_connections
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Callbacks, Middleware, Retries, ShutdownNotifications, TimeLimit

TRAININGS: Final = "trainings"
JOBS: Final = "jobs"
# What takes minutes of a processor: it keeps no preparation and no deletion waiting.
SAES: Final = "saes"


class FreshConnections(Middleware):
    """Django drops stale database connections per request; a worker does it per message."""

    def before_process_message(self, broker: object, message: object) -> None:
        close_old_connections()

    def after_process_message(
        self,
        broker: object,
        message: object,
        *,
        result: object = None,
        exception: BaseException | None = None,
    ) -> None:
        close_old_connections()


def make_broker(url: str) -> RedisBroker:
    """No retries and no time limit: the attempt counter and the lease live in the database."""
    return RedisBroker(  # type: ignore[no-untyped-call]
        url=url,
        middleware=[
            TimeLimit(time_limit=float("inf")),
            ShutdownNotifications(),
            Callbacks(),
            Retries(max_retries=0),
            FreshConnections(),
        ],
        # A broker that does not answer must not hold a request; the sweeper repeats the nudge.
        socket_timeout=5,
        socket_connect_timeout=2,
    )


def broker() -> RedisBroker:
    """This process's broker, made at its first use."""
    current = dramatiq.broker.global_broker
    if not isinstance(current, RedisBroker):
        current = make_broker(settings.REDIS_URL)
        dramatiq.set_broker(current)
    return current


def enqueue(queue: str, actor: str, *args: str) -> None:
    """Send a nudge by the actor's name, so that the web needs none of the workers' code.

    Raises redis.exceptions.RedisError when the broker cannot be reached.
    """
    message: dramatiq.Message[None] = dramatiq.Message(
        queue_name=queue, actor_name=actor, args=args, kwargs={}, options={}
    )
    here = broker()
    here.declare_queue(queue)
    here.enqueue(message)
