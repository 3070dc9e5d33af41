"""A start that is sent twice starts once; and what a start would need, asked beforehand."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client

from saestudio.access.roles import Role
from tests.people import somebody
from tests.rows import a_tokenization
from tests.trainings.conftest import nudges
from trainings.models import Training

__all__ = ["nudges"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("home", "nudges")]
URL = "/api/v1/trainings"


def client_of(name: str) -> Client:
    client = Client()
    client.force_login(somebody(name))
    return client


def post(client: Client, path: str = "", key: str = "", **changes: Any) -> Any:
    body = {
        "name": "a run",
        "tokenization_id": str(a_tokenization().pk),
        "layer": 1,
        "architecture": "standard",
        **changes,
    }
    headers = {"Idempotency-Key": key} if key else {}
    text = json.dumps(body)
    return client.post(URL + path, text, content_type="application/json", headers=headers)


def test_same_key_starts_once() -> None:
    client = client_of("ada")
    first, second = post(client, key="k"), post(client, key="k")
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert Training.objects.count() == 1
    assert post(client, key="other").status_code == post(client).status_code == 201


def test_keys_are_each_users_own() -> None:
    ids = {post(client_of(name), key="k").json()["id"] for name in ("ada", "bob")}
    assert len(ids) == 2


@pytest.mark.parametrize("change", [{"layer": 2}, {"hyperparameters": {"num_steps": 5000}}])
def test_key_of_something_else_is_a_conflict(change: dict[str, Any]) -> None:
    client = client_of("ada")
    post(client, key="k")
    answer = post(client, key="k", **change)
    assert answer.status_code == 409
    assert answer.json()["errors"][0]["field"] == "Idempotency-Key"
    assert Training.objects.count() == 1


def test_key_of_a_deleted_training_starts_nothing() -> None:
    client = client_of("ada")
    pk = post(client, key="k").json()["id"]
    client.delete(f"{URL}/{pk}")
    assert post(client, key="k").status_code == 409


def test_estimate_starts_nothing_and_names_what_is_wrong() -> None:
    client = client_of("ada")
    found = post(client, "/estimate").json()
    assert found["tokens_needed"] > 0
    assert found["seconds"] is None  # nothing was measured yet
    wrong = post(client, "/estimate", hyperparameters={"num_steps": 1}, layer=99)
    assert {e["field"] for e in wrong.json()["errors"]} >= {"num_steps"}
    assert not Training.objects.exists()


def test_viewers_may_ask_for_an_estimate_and_start_nothing() -> None:
    client = Client()
    client.force_login(somebody("eve", Role.VIEWER))
    assert post(client, "/estimate").status_code == 200
    assert post(client).status_code == 403
