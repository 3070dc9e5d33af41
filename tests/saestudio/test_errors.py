"""What is answered while the database is away, and where something else fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import OperationalError
from django.test import Client

from tests.people import somebody
from trainings.models import Training

pytestmark = pytest.mark.django_db


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Exception], object]:
    """Ask for a path whose view fails so."""
    client = Client(raise_request_exception=False)
    client.force_login(somebody())

    def failing(path: str, error: Exception) -> object:
        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr(type(Training.objects.all()), "visible", fail)
        return client.get(path)

    return failing


def test_a_database_that_is_away_is_said_and_no_failure_of_the_studio(ask) -> None:  # type: ignore[no-untyped-def]
    page = ask("/", OperationalError("the server closed the connection"))
    assert (page.status_code, page.headers["Retry-After"]) == (503, "5")
    assert "cannot be reached at the moment" in page.content.decode()
    api = ask("/api/v1/trainings", OperationalError("away"))
    assert api.status_code == 503
    assert api.json()["errors"][0]["field"] == "database"


def test_other_failures_stay_failures_in_the_shape_of_the_door(ask) -> None:  # type: ignore[no-untyped-def]
    page = ask("/", ZeroDivisionError())
    assert page.status_code == 500
    assert "Something broke" in page.content.decode()
    api = ask("/api/v1/trainings", ZeroDivisionError())
    assert (api.status_code, api.json()["errors"][0]["field"]) == (500, "server")
