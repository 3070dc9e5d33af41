"""Whose a socket is: its handshake's API token or session, and whether that still holds."""

from __future__ import annotations

from typing import Any, cast

from channels.auth import get_user
from channels.db import database_sync_to_async
from django.contrib.auth.models import AnonymousUser

from . import tokens


class TokenAuth:
    """ASGI middleware inside the one that reads sessions: a token wins, and a bad one is nobody.

    Browsers cannot send one with a handshake; scripts do.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Any:
        header = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        text = tokens.given(header)
        if text is not None:
            token = await database_sync_to_async(tokens.bearer)(text)
            user = token.user if token else AnonymousUser()
            scope = {**scope, "user": user, "api_token": text}
        return await self.app(scope, receive, send)


async def still_valid(scope: Any) -> bool:
    """Whether what the handshake brought would open the socket now.

    Not after the token was revoked or ran out, the session ended, the password was changed, or the
    account was closed.
    """
    if "api_token" in scope:
        return await database_sync_to_async(tokens.bearer)(scope["api_token"]) is not None
    session = scope["session"]
    # The scope's own, a proxy, was read when the socket was opened.
    now = session.__class__(session.session_key)
    user: Any = await get_user(cast(Any, {"session": now}))
    return bool(user.is_authenticated)
