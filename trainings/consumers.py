"""Live events for open pages. No database beyond what a handshake needs, once more now and then.

Daphne buffers without bound for a client that stops reading. Such a client answers no ping either,
so Daphne drops it after its ping timeout; a client that talks would keep itself alive without
reading, and nothing is expected from clients, so whoever sends is closed.
"""

from __future__ import annotations

import time
from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.db import Error

from saestudio.access.sockets import still_valid

from . import live
from .models import Training

LOGIN_NEEDED = 4401
NO_SUCH_TRAINING = 4404
NOTHING_EXPECTED = 4400
# Whoever may no longer listen hears nothing after so many seconds.
ASKED_EVERY = 30.0
ASKED_AGAIN = 5.0


class TrainingsConsumer(AsyncJsonWebsocketConsumer):
    """Every run's events: one socket per tab, for all cards."""

    joined: str | None = None
    ask_at = 0.0

    async def connect(self) -> None:
        user = self.scope.get("user")
        if user is None or not user.is_authenticated:
            await self._refuse(LOGIN_NEEDED)
            return
        group = await self.group()
        if group is None:
            await self._refuse(NO_SUCH_TRAINING)
            return
        # First the group: what is sent from the moment the client is connected reaches it.
        await self.channel_layer.group_add(group, self.channel_name)
        self.joined, self.ask_at = group, time.monotonic() + ASKED_EVERY
        await self.accept()

    async def _refuse(self, code: int) -> None:
        """Accept, then close: a refused handshake looks like a network failure and is retried."""
        await self.accept()
        await self.close(code)

    async def group(self) -> str | None:
        return live.ALL

    async def disconnect(self, code: int) -> None:
        if self.joined:
            await self.channel_layer.group_discard(self.joined, self.channel_name)

    async def receive(
        self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs: Any
    ) -> None:
        await self.close(NOTHING_EXPECTED)

    async def training_event(self, message: dict[str, Any]) -> None:
        if time.monotonic() >= self.ask_at and not await self._still_valid():
            await self.close(LOGIN_NEEDED)
            return
        await self.send_json(message["message"])

    async def _still_valid(self) -> bool:
        self.ask_at = time.monotonic() + ASKED_EVERY
        try:
            return await still_valid(self.scope)
        except Error:
            # The database is away, and events come all the same.
            self.ask_at = time.monotonic() + ASKED_AGAIN
            return True


class TrainingConsumer(TrainingsConsumer):
    """One run's events, as the API promises them."""

    async def group(self) -> str | None:
        training_id = self.scope["url_route"]["kwargs"]["training_id"]
        visible = Training.objects.visible().filter(pk=training_id)
        exists = await database_sync_to_async(visible.exists)()
        return live.group(training_id) if exists else None
