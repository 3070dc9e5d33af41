"""A socket opens only for pages of the very same origin."""

from __future__ import annotations

from typing import Any

import pytest

from saestudio.origin import SameOrigin
from tests.conftest import run_async


def opened(origin: bytes | None, host: bytes = b"127.0.0.1:8000", scheme: str = "ws") -> bool:
    """Whether the handshake gets through to the application."""
    passed: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        passed.append(scope)

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        assert message["type"] == "websocket.close"

    headers = [(b"host", host)] + ([(b"origin", origin)] if origin is not None else [])
    run_async(SameOrigin(app)({"headers": headers, "scheme": scheme}, receive, send))
    return bool(passed)


def test_our_own_page_gets_through() -> None:
    assert opened(b"http://127.0.0.1:8000")


def test_a_program_without_origin_gets_through() -> None:
    assert opened(None)


@pytest.mark.parametrize(
    "origin",
    [
        b"http://127.0.0.1:9000",
        b"https://127.0.0.1:8000",
        b"http://evil.example",
        b"http://127.0.0.1:8000.evil.example",
        b"null",
        b"http://[",
    ],
)
def test_a_foreign_page_does_not(origin: bytes) -> None:
    assert not opened(origin)


def test_a_secure_page_needs_a_secure_socket() -> None:
    assert opened(b"https://lab.example", host=b"lab.example", scheme="wss")
    assert not opened(b"http://lab.example", host=b"lab.example", scheme="wss")
