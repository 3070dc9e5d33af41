"""What got lost between the database and the workers is found and sent again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone
from dramatiq.brokers.redis import RedisBroker

from tests.rows import a_rehearsal, a_tokenization, a_training, an_sae
from trainings.models import SaeJob, Training
from workers import broker, sweeper
from workers.engine.config import TrainingConfig

pytestmark = pytest.mark.django_db(transaction=True)

PAST = timezone.now() - timedelta(minutes=5)
CONFIG = TrainingConfig(architecture="standard", layer=1)


@pytest.fixture(autouse=True)
def queues(redis_server: str) -> Iterator[RedisBroker]:
    """Empty queues."""
    here = broker.broker()
    here.client.flushdb()
    yield here
    here.client.flushdb()


def waiting(queue: str) -> int:
    return int(broker.broker().client.llen(f"dramatiq:{queue}"))


def test_a_pending_run_without_a_message_gets_one() -> None:
    a_training()
    sweeper.sweep()
    assert waiting(broker.TRAININGS) == 1


def test_sweeping_often_does_not_pile_up_messages() -> None:
    a_training()
    for _ in range(5):
        sweeper.sweep()
    assert waiting(broker.TRAININGS) == 1


def test_a_lost_run_is_pending_again_and_told() -> None:
    training = a_training(status="running", lease_expires_at=PAST, attempt=1)
    sweeper.sweep()
    training.refresh_from_db()
    assert (training.status, training.shown_status) == ("pending", "interrupted")
    assert waiting(broker.TRAININGS) == 1


def test_a_lease_is_not_over_because_nobody_could_renew_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is away, then slow; each time those who hold leases have a while to renew."""
    training, now = a_training(status="running", lease_expires_at=PAST, attempt=1), [0.0]
    monkeypatch.setattr(sweeper.time, "monotonic", lambda: now[0])
    leases = sweeper.Leases()

    class Away:
        def __call__(self, *_: object) -> None:
            raise OperationalError("away")

    class Slow:
        def __call__(self, execute: Any, *said: Any) -> Any:
            now[0] += sweeper.LATE + 0.1
            return execute(*said)

    for trouble in (Away(), Slow()):
        with connection.execute_wrapper(trouble), suppress(OperationalError):
            assert leases.lost(Training.objects.all()) == []
        assert leases.lost(Training.objects.all()) == []
        now[0] += sweeper.GRACE - 0.1
        assert leases.lost(Training.objects.all()) == []
        now[0] += 0.2
        assert leases.lost(Training.objects.all()) == [training]


def test_a_run_lost_too_often_fails_and_says_why() -> None:
    training = a_training(status="running", lease_expires_at=PAST, interruptions=3)
    sweeper.sweep()
    training.refresh_from_db()
    assert training.status == "failed"
    assert "lost three times" in training.error_message


def test_a_run_whose_tokenization_failed_does_not_wait_for_ever() -> None:
    training = a_training()
    tokenization = a_tokenization()
    type(tokenization).objects.update(status="failed", error_message="The text is empty.")
    sweeper.sweep()
    training.refresh_from_db()
    assert training.status == "failed"
    assert "The text is empty." in training.error_message


def test_a_preparation_that_was_lost_is_done_again() -> None:
    tokenization = a_tokenization(status="running")
    type(tokenization).objects.update(lease_expires_at=PAST)
    sweeper.sweep()
    tokenization.refresh_from_db()
    assert tokenization.status == "pending"
    assert waiting(broker.JOBS) == 1


def test_what_the_user_deleted_is_discarded() -> None:
    training = a_training(status="completed")
    Training.objects.request_delete(training.pk)
    sweeper.sweep()
    assert waiting(broker.JOBS) == 1


def test_a_measurement_whose_message_was_lost_gets_another() -> None:
    a_rehearsal(CONFIG)
    for _ in range(3):
        sweeper.sweep()
    assert waiting(broker.JOBS) == 1


def test_a_measurement_whose_worker_died_is_made_again() -> None:
    rehearsal = a_rehearsal(CONFIG, status="running", lease_expires_at=PAST, attempt=1)
    sweeper.sweep()
    rehearsal.refresh_from_db()
    assert (rehearsal.status, rehearsal.interruptions) == ("pending", 1)
    assert waiting(broker.JOBS) == 1


def test_a_measurement_that_takes_its_workers_along_fails_and_says_why() -> None:
    rehearsal = a_rehearsal(CONFIG, status="running", lease_expires_at=PAST, interruptions=2)
    sweeper.sweep()
    rehearsal.refresh_from_db()
    assert rehearsal.status == "failed"
    assert "ran out of memory" in rehearsal.error_message
    assert waiting(broker.JOBS) == 0


def test_a_measurement_nobody_came_for_does_not_wait_for_ever() -> None:
    rehearsal = a_rehearsal(CONFIG, asked_at=timezone.now() - timedelta(hours=2))
    sweeper.sweep()
    rehearsal.refresh_from_db()
    assert rehearsal.status == "failed"
    assert "No worker came" in rehearsal.error_message


def test_an_old_measurement_is_swept_away() -> None:
    rehearsal = a_rehearsal(CONFIG, status="done", ended_at=timezone.now() - timedelta(days=40))
    sweeper.sweep()
    assert not type(rehearsal).objects.exists()


def test_an_evaluation_keeps_no_preparation_waiting(tmp_path: Path) -> None:
    """Asked for, and swept after its message was lost, it waits in a queue of its own."""
    sae = an_sae(tmp_path)
    SaeJob.objects.ask(sae, SaeJob.Kind.EVALUATE, sae.text)
    assert (waiting(broker.SAES), waiting(broker.JOBS)) == (1, 0)
    broker.broker().client.flushdb()
    sweeper.sweep()
    assert (waiting(broker.SAES), waiting(broker.JOBS)) == (1, 0)
