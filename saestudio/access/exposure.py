"""Whether others than this machine's own users may reach the studio as it is."""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth.models import User
from django.db import Error

from saestudio.errors import AWAY

LEAST_KEY: Final = 32


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def refusal(host: str) -> str:
    """Why the studio must not listen there yet, and what to do; empty where it may."""
    if is_loopback(host):
        return ""
    if len(settings.SECRET_KEY) < LEAST_KEY:
        return (
            f"SAESTUDIO_SECRET_KEY has fewer than {LEAST_KEY} characters, and {host} can be "
            "reached from other machines. Leave it out to have one generated."
        )
    people = User.objects.filter(is_superuser=True, is_active=True)
    if not any(user.has_usable_password() for user in people):
        return (
            f"{host} can be reached from other machines, and no administrator has a password. Give "
            "one: manage.py createsuperuser, or manage.py changepassword local."
        )
    return ""


class Exposure:
    """ASGI middleware: refuses other machines while the studio is not fit for them.

    The start refuses to listen there at all; this holds however the server was started. A proxy on
    this machine is this machine: whom it lets in is its own matter. A server that was told to
    believe `X-Forwarded-For` (Daphne's `--proxy-headers`) believes whoever sends it.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        self._fit = False

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Any:
        reason = await self._reason(scope)
        if not reason:
            return await self.app(scope, receive, send)
        status = 503 if reason is AWAY else 403
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 4403})
        kind = (b"content-type", b"text/plain; charset=utf-8")
        await send({"type": "http.response.start", "status": status, "headers": [kind]})
        return await send({"type": "http.response.body", "body": f"{reason}\n".encode()})

    async def _reason(self, scope: dict[str, Any]) -> str:
        client = scope.get("client")
        # A socket file has no address: who may open it is the file system's matter.
        if self._fit or not client or is_loopback(client[0]):
            return ""
        host = (scope.get("server") or ["this studio"])[0]
        shown = client[0] if is_loopback(host) else host
        try:
            reason = await database_sync_to_async(refusal)(shown)
        except Error:
            return AWAY
        self._fit = not reason
        return reason
