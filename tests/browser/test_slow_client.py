"""A client that stops reading is dropped, so that its unread events do not pile up in memory."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT, Studio, free_port, wait_for

COOKIE = (
    "from django.contrib.auth.models import User; from django.test import Client; "
    "user, _ = User.objects.get_or_create(username='ada'); client = Client(); "
    "client.force_login(user); print(client.cookies['saestudio_session'].value)"
)


@pytest.fixture
def impatient_port(stage: Studio) -> Iterator[int]:
    """The stage's application behind a Daphne that pings every second and waits two."""
    port = free_port()
    words = ["--port", str(port), "--ping-interval", "1", "--ping-timeout", "2"]
    log = (stage.home / "impatient.log").open("wb")
    with (
        log,
        subprocess.Popen(
            [sys.executable, "-m", "saestudio.server", *words, "saestudio.asgi:application"],
            cwd=ROOT,
            env=stage.environment,
            stdout=log,
            stderr=log,
        ) as server,
    ):
        wait_for(lambda: _listens(port), "the server to listen")
        yield port
        server.terminate()


def test_client_that_answers_no_ping_is_dropped(stage: Studio, impatient_port: int) -> None:
    session = stage.python(COOKIE).strip()
    with socket.create_connection(("127.0.0.1", impatient_port), timeout=30) as client:
        client.sendall(
            f"GET /ws/trainings HTTP/1.1\r\nHost: 127.0.0.1:{impatient_port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"Cookie: saestudio_session={session}\r\n\r\n".encode()
        )
        assert b" 101 " in client.recv(1024)
        # Pings come and are never answered.
        wait_for(lambda: _hung_up(client), "the server to hang up", 30)


def _hung_up(client: socket.socket) -> bool:
    try:
        return client.recv(1024) == b""
    except ConnectionResetError:
        return True


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
