"""Every way between the states is one conditional UPDATE that says whether it won."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from tests.rows import a_tokenization, a_training
from trainings.models import Training
from workers.engine.config import ConfigError, TrainingConfig

pytestmark = pytest.mark.django_db

PAST = timezone.now() - timedelta(minutes=5)


def test_only_one_worker_claims_a_run() -> None:
    training = a_training()
    assert Training.objects.claim(training.pk, "first") == 1
    assert Training.objects.claim(training.pk, "second") is None
    training.refresh_from_db()
    assert (training.worker, training.status) == ("first", "running")
    assert training.started_at is not None


def test_a_run_waits_for_its_tokenization() -> None:
    training = a_training()
    type(training.tokenization).objects.update(status="running")
    assert Training.objects.claim(training.pk, "worker") is None


def test_a_lease_ends_in_the_future_of_the_databases_clock() -> None:
    training = a_training()
    Training.objects.claim(training.pk, "worker")
    training.refresh_from_db()
    assert training.lease_expires_at is not None
    left = (training.lease_expires_at - timezone.now()).total_seconds()
    assert 50 < left < 70


def test_an_old_attempt_changes_nothing() -> None:
    training = a_training()
    Training.objects.claim(training.pk, "worker")
    Training.objects.filter(pk=training.pk).update(attempt=2)
    assert not Training.objects.renew(training.pk, 1, current_step=5)
    assert not Training.objects.end(training.pk, 1, "completed")
    training.refresh_from_db()
    assert (training.status, training.current_step) == ("running", 0)


def test_stopping_a_queued_run_ends_it_at_once() -> None:
    training = a_training()
    assert Training.objects.request_stop(training.pk)
    training.refresh_from_db()
    assert training.status == "stopped"


def test_stopping_a_running_run_asks_once() -> None:
    training = a_training(status="running")
    assert Training.objects.request_stop(training.pk)
    assert not Training.objects.request_stop(training.pk)
    training.refresh_from_db()
    assert (training.status, training.shown_status) == ("running", "stopping")


@pytest.mark.parametrize("status", ["pending", "running", "completed"])
def test_only_failed_and_stopped_runs_start_again(status: str) -> None:
    training = a_training(status=status)
    assert not Training.objects.restart(training.pk, from_scratch=False)


def test_a_resumed_run_keeps_its_step_and_forgets_its_error() -> None:
    training = a_training(status="failed", error_message="no room", current_step=70, attempt=1)
    assert Training.objects.restart(training.pk, from_scratch=False)
    training.refresh_from_db()
    assert (training.status, training.error_message, training.current_step) == ("pending", None, 70)
    assert training.fresh_since_attempt == 1


def test_a_retry_from_scratch_leaves_older_checkpoints_behind() -> None:
    training = a_training(status="failed", current_step=70, attempt=2)
    assert Training.objects.restart(training.pk, from_scratch=True)
    training.refresh_from_db()
    assert (training.current_step, training.fresh_since_attempt) == (0, 3)


def test_a_lost_run_is_queued_again_three_times_at_most() -> None:
    training = a_training()
    for _ in range(3):
        Training.objects.filter(pk=training.pk).update(status="running", lease_expires_at=PAST)
        assert Training.objects.requeue_lost(training.pk)
    Training.objects.filter(pk=training.pk).update(status="running", lease_expires_at=PAST)
    assert not Training.objects.requeue_lost(training.pk)
    assert Training.objects.give_up_lost(training.pk, "lost too often")
    training.refresh_from_db()
    assert (training.status, training.error_message) == ("failed", "lost too often")


def test_a_run_that_another_sweeper_queued_again_is_not_given_up() -> None:
    training = a_training(status="running", lease_expires_at=PAST)
    assert Training.objects.requeue_lost(training.pk)
    assert not Training.objects.requeue_lost(training.pk)  # the second sweeper's
    assert not Training.objects.give_up_lost(training.pk, "lost too often")
    training.refresh_from_db()
    assert (training.status, training.interruptions) == ("pending", 1)


def test_a_run_lost_once_too_often_while_it_was_to_stop_is_stopped() -> None:
    training = a_training(
        status="running", lease_expires_at=PAST, interruptions=3, stop_requested_at=PAST
    )
    assert Training.objects.requeue_lost(training.pk)
    training.refresh_from_db()
    assert training.status == "stopped"
    assert training.completed_at is not None


def test_a_run_with_a_live_lease_is_not_lost() -> None:
    training = a_training()
    Training.objects.claim(training.pk, "worker")
    assert not Training.objects.requeue_lost(training.pk)
    assert not Training.objects.give_up_lost(training.pk, "why?")
    assert not Training.objects.give_up_waiting(training.pk, "why?")


def test_a_deleted_run_is_hidden_and_then_discarded() -> None:
    training = a_training(status="running", lease_expires_at=timezone.now() + timedelta(hours=1))
    assert Training.objects.request_delete(training.pk)
    assert not Training.objects.visible().exists()
    assert not Training.objects.to_discard().exists()
    Training.objects.filter(pk=training.pk).update(status="stopped")
    assert Training.objects.to_discard().exists()


def test_starting_twice_with_one_id_makes_one_run() -> None:
    first = a_training()
    again = Training.objects.start(
        pk=first.pk, name="again", tokenization=first.tokenization, config=first.config
    )
    assert (again.pk, again.name, Training.objects.count()) == (first.pk, "a run", 1)


def test_a_run_that_cannot_work_is_refused_with_its_field() -> None:
    config = TrainingConfig(architecture="standard", layer=9)
    with pytest.raises(ConfigError) as refused:
        Training.objects.start(name="x", tokenization=a_tokenization(), config=config)
    assert [p.field for p in refused.value.problems] == ["layer"]
    assert not Training.objects.exists()
