"""What got lost between the database and the workers is found and sent again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils import timezone
from dramatiq.brokers.redis import RedisBroker

from tests.rows import a_tokenization, a_training
from trainings.models import Training
from workers import broker, sweeper

pytestmark = pytest.mark.django_db(transaction=True)

PAST = timezone.now() - timedelta(minutes=5)


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
