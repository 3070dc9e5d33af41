"""Whoever calls the API."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.people import somebody


@pytest.fixture
def api() -> Client:
    """A member's session."""
    client = Client()
    client.force_login(somebody())
    return client
