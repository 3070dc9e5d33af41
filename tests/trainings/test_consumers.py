"""The sockets: who may listen, what comes, and that nobody is waited for."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.auth import AuthMiddlewareStack
from channels.layers import get_channel_layer
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.db import OperationalError
from django.db.models.functions import Now
from django.test import Client

from saestudio.access import tokens
from saestudio.access.sockets import TokenAuth
from saestudio.asgi import websocket
from saestudio.models import ApiToken
from tests.conftest import run_async
from tests.rows import a_training
from trainings import consumers, live

pytestmark = pytest.mark.django_db(transaction=True)


@asynccontextmanager
async def socket(path: str, user: Any) -> AsyncIterator[WebsocketCommunicator]:
    opened = WebsocketCommunicator(websocket, path)
    opened.scope["user"] = user
    connected, _ = await opened.connect()
    assert connected
    try:
        yield opened
    finally:
        await opened.disconnect()


async def send(training_id: Any, seq: int) -> None:
    message = live.envelope("progress", training_id, seq, {"step": 10})
    event = {"type": "training.event", "message": message}
    for group in (live.ALL, live.group(training_id)):
        await get_channel_layer().group_send(group, event)


def test_all_runs_come_over_one_socket(redis_server: str, user: User) -> None:
    async def scene() -> None:
        async with socket("/ws/trainings", user) as opened:
            for training_id in (uuid.uuid4(), uuid.uuid4()):
                await send(training_id, 1)
                got = await opened.receive_json_from(5)
                assert got["training_id"] == str(training_id)

    run_async(scene())


def test_one_runs_socket_carries_the_promised_envelope(redis_server: str, user: User) -> None:
    async def scene() -> None:
        run = await sync_to_async(a_training)()
        async with socket(f"/ws/training/{run.pk}", user) as opened:
            await send(uuid.uuid4(), 1)
            await send(run.pk, 41)
            got = await opened.receive_json_from(5)
            while got["event"] == "status":  # that it was started may still be on its way
                got = await opened.receive_json_from(5)
            assert got == {
                "event": "progress",
                "training_id": str(run.pk),
                "seq": 41,
                "data": {"step": 10},
            }

    run_async(scene())


@pytest.mark.parametrize(
    ("anonymous", "path", "code"),
    [
        (True, "/ws/trainings", 4401),
        (True, f"/ws/training/{uuid.UUID(int=7)}", 4401),
        (False, f"/ws/training/{uuid.UUID(int=7)}", 4404),
    ],
)
def test_refusal_is_a_code_a_page_can_read(
    redis_server: str, user: User, anonymous: bool, path: str, code: int
) -> None:
    async def scene() -> None:
        async with socket(path, AnonymousUser() if anonymous else user) as opened:
            assert await opened.receive_output(5) == {
                "type": "websocket.close",
                "code": code,
            }

    run_async(scene())


def test_client_that_talks_is_closed(redis_server: str, user: User) -> None:
    async def scene() -> None:
        async with socket("/ws/trainings", user) as opened:
            await opened.send_to(text_data="{}")
            closed = await opened.receive_output(5)
            assert (closed["type"], closed["code"]) == ("websocket.close", 4400)

    run_async(scene())


@pytest.mark.parametrize("what", ["revoked", "expired", "account closed"])
def test_a_socket_outlives_its_token_by_no_event(
    redis_server: str, user: User, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(consumers, "ASKED_EVERY", 0.0)
    token, text = tokens.make(user, "watcher", read_only=True, days=1)

    async def scene() -> None:
        header = (b"authorization", f"Bearer {text}".encode())
        opened = WebsocketCommunicator(TokenAuth(websocket), "/ws/trainings", headers=[header])
        assert (await opened.connect())[0]
        await send(uuid.uuid4(), 1)
        assert (await opened.receive_json_from(5))["seq"] == 1
        await sync_to_async(end)()
        await send(uuid.uuid4(), 2)
        assert (await opened.receive_output(5)) == {
            "type": "websocket.close",
            "code": consumers.LOGIN_NEEDED,
        }

    def end() -> None:
        if what == "revoked":
            token.delete()
        elif what == "expired":
            ApiToken.objects.update(expires_at=Now())
        else:
            User.objects.update(is_active=False)

    run_async(scene())


@pytest.mark.parametrize("what", ["logged out", "password changed"])
def test_a_socket_outlives_its_session_by_no_event(
    redis_server: str, user: User, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(consumers, "ASKED_EVERY", 0.0)
    page = Client()
    page.force_login(user)
    name = settings.SESSION_COOKIE_NAME
    cookie = f"{name}={page.cookies[name].value}"

    async def scene() -> None:
        inside = AuthMiddlewareStack(TokenAuth(websocket))
        headers = [(b"cookie", cookie.encode())]
        opened = WebsocketCommunicator(inside, "/ws/trainings", headers=headers)
        assert (await opened.connect())[0]
        await send(uuid.uuid4(), 1)
        assert (await opened.receive_json_from(5))["seq"] == 1
        await sync_to_async(end)()
        await send(uuid.uuid4(), 2)
        assert (await opened.receive_output(5))["code"] == consumers.LOGIN_NEEDED

    def end() -> None:
        if what == "logged out":
            page.post("/logout")
        else:
            user.set_password("quite another one")
            user.save()

    run_async(scene())


def test_a_socket_stays_open_while_the_database_is_away(
    redis_server: str, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "ASKED_EVERY", 0.0)

    async def away(scope: Any) -> bool:
        raise OperationalError("gone")

    monkeypatch.setattr(consumers, "still_valid", away)

    async def scene() -> None:
        async with socket("/ws/trainings", user) as opened:
            await send(uuid.uuid4(), 1)
            assert (await opened.receive_json_from(5))["seq"] == 1

    run_async(scene())
