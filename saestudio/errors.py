"""What is answered where something failed: a page, or for the API its one shape of errors."""

from __future__ import annotations

import sys

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string

AWAY = "The database cannot be reached at the moment; nothing was changed. Try again in a moment."
FAILED = "The server failed at this; its log says why. Nothing was changed."


def server_error(request: HttpRequest) -> HttpResponse:
    """503 while the database is away, else 500."""
    away = isinstance(sys.exc_info()[1], OperationalError | InterfaceError)
    status = 503 if away else 500
    if request.path.startswith("/api/"):
        field, message = ("database", AWAY) if away else ("server", FAILED)
        body = {"errors": [{"field": field, "message": message}]}
        answer: HttpResponse = JsonResponse(body, status=status)
    else:
        # Without the request: who is logged in would be asked of the database.
        answer = HttpResponse(render_to_string(f"{status}.html"), status=status)
    if away:
        answer["Retry-After"] = "5"
    return answer
