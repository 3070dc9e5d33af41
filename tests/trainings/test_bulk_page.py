"""The same to many trainings from the page: what is asked, what is done, what is told."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from tests.rows import a_training
from trainings.models import Training

pytestmark = pytest.mark.django_db
BULK = "/trainings/bulk"
Nudges = list[tuple[str, Any]]


def asked(client: Client, action: str, *runs: Training, **more: str) -> str:
    ids = [str(run.pk) for run in runs]
    return client.get(BULK, {"action": action, "ids": ids, **more}).content.decode()


def do(client: Client, action: str, *runs: Training, **more: str) -> str:
    ids = [str(run.pk) for run in runs]
    return client.post(BULK, {"action": action, "ids": ids, **more}, follow=True).content.decode()


def test_delete_names_what_goes_and_deletes_it_in_one_request(
    client: Client, nudges: Nudges
) -> None:
    first, second = a_training(name="first", status="failed"), a_training(name="second")
    page = asked(client, "delete", first, second)
    assert "first" in page
    assert "second" in page
    assert "Delete 2" in page
    assert Training.objects.visible().count() == 2
    assert "2 trainings being deleted" in do(client, "delete", first, second)
    assert not Training.objects.visible().exists()
    assert {kind for kind, _ in nudges} == {"discard"}


def test_retry_leaves_out_what_cannot_be_retried_and_says_why(
    client: Client, nudges: Nudges
) -> None:
    failed = a_training(name="failed", status="failed", current_step=500, attempt=1)
    running = a_training(name="running", status="running")
    page = asked(client, "retry", failed, running)
    assert "Retry 1" in page
    assert "Only a failed or stopped training can be tried again." in page
    told = do(client, "retry", failed, running, **{"from": "scratch"})
    assert "1 training queued again." in told
    assert "1 left as it is: Only a failed or stopped" in told
    failed.refresh_from_db()
    assert (failed.status, failed.current_step) == ("pending", 0)


def test_without_a_choice_whole_groups_are_offered(client: Client) -> None:
    a_training(status="failed", name="one")
    a_training(status="completed", name="other")
    page = asked(client, "delete")
    assert "No training is selected" in page
    assert "status=failed" in page
    assert "status=stopped" not in page  # there is none
    page = asked(client, "delete", status="failed")
    assert "one" in page
    assert "Delete 1" in page
    assert "other" not in page


@pytest.mark.parametrize("action", ["", "destroy"])
def test_unknown_actions_are_refused(client: Client, action: str) -> None:
    assert client.get(BULK, {"action": action}).status_code == 400
    assert client.post(BULK, {"action": action}).status_code == 400


def test_what_is_no_id_and_what_is_gone_does_no_harm(client: Client, nudges: Nudges) -> None:
    gone = a_training(status="failed")
    Training.objects.request_delete(gone.pk)
    told = client.post(BULK, {"action": "delete", "ids": [str(gone.pk), "x"]}, follow=True)
    assert "There is no such training." in told.content.decode()


def test_an_open_page_gets_its_changed_cards(client: Client, nudges: Nudges) -> None:
    run, gone = a_training(status="failed"), a_training(status="failed")
    answer = client.post(
        BULK, {"action": "retry", "ids": [str(run.pk)]}, headers={"HX-Request": "true"}
    )
    assert f'id="status-{run.pk}"' in answer.content.decode()
    assert answer.headers["HX-Trigger"] == "dialog:close"
    answer = client.post(
        BULK, {"action": "delete", "ids": [str(gone.pk)]}, headers={"HX-Request": "true"}
    )
    assert f'<article id="card-{gone.pk}" hx-swap-oob="delete">' in answer.content.decode()
