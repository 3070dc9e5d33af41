"""What is answered where something failed: a page, or for the API its one shape of errors."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Final

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.template.loader import render_to_string

from trainings.fetching import NotHere

AWAY = "The database cannot be reached at the moment; nothing was changed. Try again in a moment."
FAILED = "The server failed at this; its log says why. Nothing was changed."


def refusal(status: int, field: str, message: str) -> JsonResponse:
    """In the shape that all errors of the API have."""
    return JsonResponse({"errors": [{"field": field, "message": message}]}, status=status)


def unknown() -> JsonResponse:
    """For a script that has said neither by a token nor by a session whose it is."""
    why = "Send an API token (Authorization: Bearer sae_...), or log in."
    answer = refusal(401, "authorization", why)
    answer["WWW-Authenticate"] = "Bearer"
    return answer


SENTENCES: Final = {
    400: ("request", "The request cannot be read."),
    403: ("csrf", "A session may change something only with its CSRF token; or send an API token."),
    404: ("path", "There is nothing at this address."),
    405: ("method", "This address does not take this method."),
    413: ("body", "The body is larger than is read."),
}


class ApiErrors:
    """What Django itself answers below /api/ (no such path, no such method), in the API's shape."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        answer = self.get_response(request)
        ours = request.path.startswith("/api/") and answer.status_code in SENTENCES
        if not ours or answer.get("Content-Type", "").startswith("application/json"):
            return answer
        shaped = refusal(answer.status_code, *SENTENCES[answer.status_code])
        if allowed := answer.get("Allow"):
            shaped["Allow"] = allowed
        return shaped


class FilesOnTheirWay:
    """503 and a sentence where what is asked for lies in the store and not on this host yet."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, NotHere):
            return None
        if request.path.startswith("/api/"):
            answer: HttpResponse = refusal(503, "store", str(error))
        else:
            answer = render(request, "waits.html", {"reason": str(error)}, status=503)
        answer["Retry-After"] = "5"
        return answer


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """403 with the sentence it was raised with: for the API, for a part of a page, or as a page."""
    reason = str(exception)
    if request.path.startswith("/api/"):
        return refusal(403, "permission", reason or "Your account may not do this.")
    answer = render(request, "403.html", {"reason": reason}, status=403)
    if reason:
        # Headers hold no letters beyond Latin; JSON's escapes do.
        answer["X-Refusal"] = json.dumps(reason)
    return answer


def server_error(request: HttpRequest) -> HttpResponse:
    """503 while the database is away, else 500."""
    away = isinstance(sys.exc_info()[1], OperationalError | InterfaceError)
    status = 503 if away else 500
    if request.path.startswith("/api/"):
        field, message = ("database", AWAY) if away else ("server", FAILED)
        answer: HttpResponse = refusal(status, field, message)
    else:
        # Without the request: who is logged in would be asked of the database.
        answer = HttpResponse(render_to_string(f"{status}.html"), status=status)
    if away:
        answer["Retry-After"] = "5"
    return answer
