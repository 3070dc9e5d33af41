"""Whether the studio runs: for the start script and for whoever watches a server."""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.db import OperationalError, connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_GET
from redis.exceptions import RedisError

from workers.broker import broker


@login_not_required
@require_GET
def healthz(request: HttpRequest) -> JsonResponse:
    """The process answers."""
    return JsonResponse({"status": "ok"})


@login_not_required
@require_GET
def readyz(request: HttpRequest) -> JsonResponse:
    """The process and what it needs answer; 503 with the names of what does not."""
    parts = {"database": _database(), "redis": _redis()}
    ready = all(state == "ok" for state in parts.values())
    return JsonResponse(parts, status=200 if ready else 503)


def _database() -> str:
    try:
        connection.ensure_connection()
    except OperationalError:
        return "unreachable"
    return "ok"


def _redis() -> str:
    try:
        broker().client.ping()
    except RedisError:
        return "unreachable"
    return "ok"
