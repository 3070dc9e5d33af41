"""Whether the studio runs: for the start, for load balancers, for whoever watches a server."""

from __future__ import annotations

import shutil
from concurrent.futures import wait

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import OperationalError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.exposition import generate_latest
from redis.exceptions import RedisError

from trainings import fetching, store
from trainings.models import Worker
from workers.broker import broker

from .measures import registry

OK = "ok"
# Less room than this, and neither a checkpoint nor the database can count on being written.
LEAST_DISK = 10**9
# Seconds for which the store is waited for.
STORE_PATIENCE = 5.0


@login_not_required
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """The process answers."""
    return JsonResponse({"status": OK})


@login_not_required
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """All that a training needs is there; 503 with the names of what is not."""
    parts = {"database": _database(), "redis": _redis(), "disk": _disk()}
    parts["workers"] = _workers() if parts["database"] == OK else "unknown"
    if store.on():
        parts["store"] = _store()
    ready = all(state == OK for state in parts.values())
    return JsonResponse(parts, status=200 if ready else 503)


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """What Prometheus reads; with an API token, as any script."""
    return HttpResponse(generate_latest(registry()), content_type=CONTENT_TYPE_LATEST)


def _database() -> str:
    try:
        connection.ensure_connection()
    except OperationalError:
        return "unreachable"
    return OK


def _redis() -> str:
    try:
        broker().client.ping()
    except RedisError:
        return "unreachable"
    return OK


def _disk() -> str:
    free = shutil.disk_usage(settings.HOME).free
    return OK if free > LEAST_DISK else f"only {free / 1e6:,.0f} MB are free"


def _store() -> str:
    """What a small object, written, read and deleted, said within the last seconds."""
    asked = fetching.check()
    if not wait([asked], STORE_PATIENCE).done:
        return "does not answer"
    error = asked.exception()
    return OK if error is None else "unreachable"


def _workers() -> str:
    """Each kind must have been seen within the last minute."""
    missing = Worker.objects.missing()
    return f"no {' and no '.join(missing)} is seen" if missing else OK
