"""The user of a socket whose handshake brings an API token; browsers cannot send one there."""

from __future__ import annotations

from typing import Any

from channels.db import database_sync_to_async
from django.contrib.auth.models import AnonymousUser

from . import tokens


class TokenAuth:
    """ASGI middleware inside the one that reads sessions: a token wins, and a bad one is nobody."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Any:
        header = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        text = tokens.given(header)
        if text is not None:
            token = await database_sync_to_async(tokens.bearer)(text)
            scope = {**scope, "user": token.user if token else AnonymousUser()}
        return await self.app(scope, receive, send)
