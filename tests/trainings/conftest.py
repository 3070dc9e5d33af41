"""A logged-in client, and nudges that are remembered instead of sent."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.people import somebody


@pytest.fixture
def user(db: None) -> User:
    """A member."""
    return somebody()


@pytest.fixture
def client(user: User) -> Client:
    found = Client()
    found.force_login(user)
    return found


@pytest.fixture
def nudges(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What was sent to the workers: (kind, row)."""
    from trainings import nudge

    sent: list[tuple[str, Any]] = []
    for kind in ("run", "prepare", "rehearse", "sae_job", "discard"):
        monkeypatch.setattr(nudge, kind, lambda row, kind=kind: sent.append((kind, row)))
    return sent
