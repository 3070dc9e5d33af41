"""A logged-in client, and nudges that are remembered instead of sent."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client


@pytest.fixture
def user(db: None) -> User:
    """Without a password, whose hashing would take most of a test's time."""
    return User.objects.create(username="ada")


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
    for kind in ("run", "prepare", "rehearse", "discard"):
        monkeypatch.setattr(nudge, kind, lambda row, kind=kind: sent.append((kind, row)))
    return sent
