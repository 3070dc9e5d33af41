"""A socket is opened only by our own pages, or by a program that sends no Origin at all.

Channels' own validator compares host names and so accepts another port of the same host; a browser
sends its cookies there too. Here scheme, host and port must all be those of the request.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

DEFAULT_PORTS = {"http": 80, "https": 443}


class SameOrigin:
    """ASGI middleware that answers a foreign Origin with a refused handshake (403)."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        headers = dict(scope["headers"])
        origin = headers.get(b"origin")
        if origin is None or _is_own(origin.decode("latin-1"), headers, scope):
            await self.app(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.close", "code": 4403})


def _is_own(origin: str, headers: dict[bytes, bytes], scope: dict[str, Any]) -> bool:
    # Behind a proxy that speaks TLS this process does not see it.
    scheme = "https" if settings.HTTPS or scope.get("scheme") == "wss" else "http"
    host = headers.get(b"host", b"").decode("latin-1")
    return _parts(origin) == _parts(f"{scheme}://{host}")


def _parts(url: str) -> tuple[str, str | None, int | None] | None:
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    return parts.scheme, parts.hostname, port
