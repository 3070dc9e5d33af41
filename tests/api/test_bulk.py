"""The same wish for many trainings: one request, and of each what came of it."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.test import Client

from tests.people import somebody
from tests.rows import a_training
from trainings import nudge
from trainings.models import Training

pytestmark = pytest.mark.django_db


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What was sent to the workers, with the trainings' names."""
    sent: list[tuple[str, str]] = []

    def run(pk: uuid.UUID) -> None:
        sent.append(("run", Training.objects.get(pk=pk).name))

    monkeypatch.setattr(nudge, "run", run)
    monkeypatch.setattr(nudge, "discard", lambda run: sent.append(("discard", run.name)))
    return sent


def ask(client: Client, action: str, ids: list[Any], **more: Any) -> Any:
    client.force_login(somebody())
    payload = {"action": action, "ids": [str(pk) for pk in ids], **more}
    return client.post("/api/v1/trainings/bulk", payload, content_type="application/json")


def test_failed_ones_are_retried_and_the_others_are_told_why_not(
    client: Client, told: list[tuple[str, str]]
) -> None:
    failed = a_training(name="failed", status="failed", current_step=7)
    running = a_training(name="running", status="running")
    nowhere = uuid.uuid4()
    answer = ask(client, "retry", [failed.pk, running.pk, nowhere, failed.pk], from_scratch=True)
    assert answer.status_code == 200
    found = answer.json()
    assert found["done"] == 1
    assert [(item["id"], item["done"]) for item in found["items"]] == [
        (str(failed.pk), True),
        (str(running.pk), False),
        (str(nowhere), False),
    ]
    assert found["items"][1]["message"].startswith("Only a failed or stopped training")
    assert found["items"][2]["message"] == "There is no such training."
    failed.refresh_from_db()
    assert (failed.status, failed.current_step) == ("pending", 0)
    assert told == [("run", "failed")]


def test_a_resume_in_bulk_keeps_the_steps(client: Client, told: list[tuple[str, str]]) -> None:
    stopped = a_training(status="stopped", current_step=7)
    ask(client, "resume", [stopped.pk], from_scratch=True)
    stopped.refresh_from_db()
    assert (stopped.status, stopped.current_step) == ("pending", 7)


def test_all_are_deleted_in_one_request(client: Client, told: list[tuple[str, str]]) -> None:
    runs = [a_training(name=f"{n}", status=s) for n, s in enumerate(("completed", "pending"))]
    assert ask(client, "delete", [run.pk for run in runs]).json()["done"] == 2
    assert not Training.objects.visible().exists()
    assert told == [("discard", "0"), ("discard", "1")]
    again = ask(client, "delete", [runs[0].pk]).json()
    assert (again["done"], again["items"][0]["done"]) == (0, False)


def test_queued_ones_are_stopped_at_once(client: Client) -> None:
    queued = a_training()
    assert ask(client, "stop", [queued.pk]).json()["done"] == 1
    queued.refresh_from_db()
    assert queued.status == "stopped"


@pytest.mark.parametrize(
    ("payload", "field"),
    [({"action": "rename"}, "action"), ({"ids": []}, "ids"), ({"ids": ["x"]}, "ids")],
)
def test_what_is_wrong_is_named(client: Client, payload: dict[str, Any], field: str) -> None:
    client.force_login(somebody())
    whole = {"action": "stop", "ids": [str(uuid.uuid4())]} | payload
    answer = client.post("/api/v1/trainings/bulk", whole, content_type="application/json")
    assert answer.status_code == 422
    assert field in answer.json()["errors"][0]["field"]


def test_strangers_get_401(client: Client) -> None:
    payload = {"action": "stop", "ids": [str(uuid.uuid4())]}
    answer = client.post("/api/v1/trainings/bulk", payload, content_type="application/json")
    assert answer.status_code == 401
