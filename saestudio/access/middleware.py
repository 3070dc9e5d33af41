"""Every request: whose it is, and whether they may do this."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect

from saestudio.errors import refusal, unknown

from . import tokens
from .roles import LOOKING, SAFE, only_looks, reads

TAKES_TOKENS = ("/api/", "/metrics")
FOR_SCRIPTS = ("/metrics",)
Answer = Callable[[HttpRequest], HttpResponseBase]


class BearerToken:
    """On the API: makes the request that of the token's user, whatever its cookies say.

    Therefore no other site can send it, and it needs no CSRF token. Pages know no tokens: with one
    of them nobody makes others, or changes a password.
    """

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        text = tokens.given(request.headers.get("Authorization", ""))
        if text is None or not request.path.startswith(TAKES_TOKENS):
            return self.get_response(request)
        token = tokens.bearer(text)
        if token is None:
            answer = refusal(401, "authorization", "This API token is unknown, revoked or expired.")
            answer["WWW-Authenticate"] = 'Bearer error="invalid_token"'
            return answer
        if not (tokens.may(token, request.method or "") or reads(request.path)):
            return refusal(403, "authorization", tokens.READ_ONLY)
        request.user = token.user
        request.api_token = token  # type: ignore[attr-defined]
        request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined]
        return self.get_response(request)


class LoginRequired(LoginRequiredMiddleware):
    """Login for every page, and the right to change something; the API says 401 itself."""

    def process_view(
        self,
        request: HttpRequest,
        view_func: Callable[..., HttpResponseBase],
        view_args: Any,
        view_kwargs: Any,
    ) -> HttpResponseBase | None:
        if only_looks(request, view_func):
            raise PermissionDenied(LOOKING)
        if request.path.startswith("/api/"):
            return None
        return super().process_view(request, view_func, view_args, view_kwargs)

    def handle_no_permission(  # type: ignore[override]
        self, request: HttpRequest, view_func: Callable[..., HttpResponseBase]
    ) -> HttpResponseBase:
        """Back to a page after the login, and to nothing that only a button leads to.

        A script is told to bring a token: a page to log in is nothing that it could read.
        """
        if request.path in FOR_SCRIPTS:
            return unknown()
        if request.method not in SAFE:
            return redirect(settings.LOGIN_URL)
        return super().handle_no_permission(request, view_func)
