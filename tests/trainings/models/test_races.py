"""Two at once on one row, on PostgreSQL: where an UPDATE waits for another, it looks again."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, transaction

from tests import on_postgres
from tests.conftest import wait_for
from tests.rows import a_training
from trainings import live
from trainings.models import Training

pytestmark = [
    pytest.mark.django_db(transaction=True),
    # SQLite has one writer at a time: the second begins when the first has committed.
    pytest.mark.skipif(on_postgres.FOLDER not in os.environ, reason="on PostgreSQL alone"),
]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "publish", lambda *_: None)


def behind(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[Any, Any]:
    """What both return, where the second begins before the first has committed."""
    done, waits = threading.Event(), threading.Event()

    def hold() -> Any:
        try:
            with transaction.atomic():
                found = first()
                done.set()
                assert waits.wait(30)
            return found
        finally:
            connection.close()

    def follow() -> Any:
        try:
            return second()
        finally:
            connection.close()

    def blocked() -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            return bool(cursor.fetchone()[0])

    with ThreadPoolExecutor(2) as pool:
        held = pool.submit(hold)
        assert done.wait(30)
        following = pool.submit(follow)
        wait_for(lambda: blocked() or following.done(), "the second to wait or to be done")
        waits.set()
        return held.result(30), following.result(30)


def claim(run: Training, worker: str = "worker") -> Callable[[], int | None]:
    return lambda: Training.objects.claim(run.pk, worker)


def test_two_workers_never_claim_one_run() -> None:
    run = a_training()
    assert behind(claim(run, "first"), claim(run, "second")) == (1, None)
    run.refresh_from_db()
    assert (run.worker, run.attempt) == ("first", 1)


@pytest.mark.parametrize("wish", ["request_stop", "request_delete"])
def test_a_claim_never_undoes_what_was_asked(wish: str) -> None:
    run = a_training()
    asked = getattr(Training.objects, wish)
    assert behind(lambda: asked(run.pk), claim(run)) == (True, None)
    run.refresh_from_db()
    assert run.status == "stopped"


@pytest.mark.parametrize("wish", ["request_stop", "request_delete"])
def test_what_is_asked_while_a_worker_claims_reaches_that_worker(wish: str) -> None:
    run = a_training()
    asked = getattr(Training.objects, wish)
    assert behind(claim(run), lambda: asked(run.pk)) == (1, True)
    run.refresh_from_db()
    assert run.status == "running"
    assert run.stop_requested_at is not None


def test_a_stop_is_not_missed_while_a_run_changes_hands() -> None:
    run = a_training()
    attempt = Training.objects.claim(run.pk, "worker")
    assert attempt == 1
    both = behind(
        lambda: Training.objects.hand_back(run.pk, 1), lambda: Training.objects.request_stop(run.pk)
    )
    assert both == (True, True)
    run.refresh_from_db()
    assert run.status == "stopped"


def test_of_two_that_restart_a_run_one_wins() -> None:
    run = a_training(status="failed")

    def again() -> bool:
        return Training.objects.restart(run.pk, from_scratch=False)

    assert behind(again, again) == (True, False)
