"""Stop, resume, retry and delete, from a page with and without scripts."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.rows import a_training
from trainings.models import Training

pytestmark = pytest.mark.django_db
Nudges = list[tuple[str, Any]]


def test_stop_asks_a_running_run_to_end(client: Client) -> None:
    run = a_training(status="running")
    assert client.post(reverse("stop", args=[run.pk])).headers["Location"] == "/"
    run.refresh_from_db()
    assert run.stop_requested_at is not None


def test_stop_from_a_live_page_answers_with_the_changed_parts(client: Client) -> None:
    run = a_training(status="running")
    answer = client.post(reverse("stop", args=[run.pk]), headers={"HX-Request": "true"})
    assert f'id="status-{run.pk}"' in answer.content.decode()
    assert "Stopping" in answer.content.decode()
    assert answer.headers["HX-Reswap"] == "none"


def test_stop_of_an_ended_run_says_so(client: Client) -> None:
    run = a_training(status="completed")
    answer = client.post(reverse("stop", args=[run.pk]), follow=True)
    assert "It had already ended" in answer.content.decode()


def test_nothing_is_changed_by_a_get(client: Client) -> None:
    run = a_training(status="running")
    assert client.get(reverse("stop", args=[run.pk])).status_code == 405
    run.refresh_from_db()
    assert run.stop_requested_at is None


def test_run_next_moves_a_waiting_run_to_the_front(client: Client) -> None:
    first, last = a_training(name="first"), a_training(name="last")
    page = client.get("/").content.decode()
    assert reverse("run_next", args=[last.pk]) in page
    assert reverse("run_next", args=[first.pk]) not in page  # it is next already
    client.post(reverse("run_next", args=[last.pk]))
    assert list(Training.objects.queue()) == [last, first]


def test_run_next_of_a_run_that_began_says_so(client: Client) -> None:
    run = a_training(status="running")
    answer = client.post(reverse("run_next", args=[run.pk]), follow=True)
    assert "It no longer waits." in answer.content.decode()


def test_resume_queues_from_the_checkpoint_and_tells_the_workers(
    client: Client, nudges: Nudges
) -> None:
    run = a_training(status="stopped", attempt=1, current_step=500)
    client.post(reverse("resume", args=[run.pk]))
    run.refresh_from_db()
    assert (run.status, run.current_step) == ("pending", 500)
    assert nudges == [("run", run.pk)]


def test_retry_from_scratch_begins_anew(client: Client, nudges: Nudges) -> None:
    run = a_training(status="failed", attempt=1, current_step=500)
    client.post(reverse("retry", args=[run.pk]), {"from": "scratch"})
    run.refresh_from_db()
    assert (run.status, run.current_step) == ("pending", 0)
    assert nudges == [("run", run.pk)]


def test_retry_dialog_offers_only_what_exists(client: Client) -> None:
    run = a_training(status="failed")
    page = client.get(reverse("retry", args=[run.pk])).content.decode()
    assert "There is no checkpoint yet." in page
    assert 'value="checkpoint" disabled' in page


def test_running_run_cannot_be_retried(client: Client, nudges: Nudges) -> None:
    run = a_training(status="running")
    client.post(reverse("retry", args=[run.pk]), {"from": "scratch"})
    run.refresh_from_db()
    assert run.status == "running"
    assert nudges == []


def test_delete_asks_first_and_then_hides_the_run(client: Client, nudges: Nudges) -> None:
    run = a_training(status="completed")
    assert "cannot be undone" in client.get(reverse("delete", args=[run.pk])).content.decode()
    client.post(reverse("delete", args=[run.pk]))
    assert client.get(reverse("training", args=[run.pk])).status_code == 404
    assert nudges == [("discard", run)]


@pytest.mark.parametrize("name", ["training", "points", "hyperparameters", "retry", "delete"])
def test_unknown_run_is_not_found(client: Client, name: str) -> None:
    assert client.get(reverse(name, args=[uuid.uuid4()])).status_code == 404


def test_way_back_never_leaves_the_studio(client: Client) -> None:
    run = a_training(status="running")
    answer = client.post(reverse("stop", args=[run.pk]), {"next": "https://elsewhere.example/"})
    assert answer.headers["Location"] == "/"


def test_post_without_a_token_is_refused_with_a_page(user: object) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(user)  # type: ignore[arg-type]
    run = a_training(status="running")
    answer = strict.post(reverse("stop", args=[run.pk]))
    assert answer.status_code == 403
    assert "The page was too old" in answer.content.decode()
