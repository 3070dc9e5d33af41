"""Who starts next: the higher priority, then whoever waits longest."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from tests.rows import a_training
from trainings.models import Training
from trainings.models.transitions import Place, Priority

pytestmark = pytest.mark.django_db

PAST = timezone.now() - timedelta(hours=1)


def names() -> list[str]:
    return [run.name for run in Training.objects.queue()]


def test_higher_priority_comes_first_and_equals_keep_their_order() -> None:
    for name, priority in (("a", 0), ("b", Priority.LOW), ("c", Priority.HIGH), ("d", 0)):
        a_training(name=name, priority=priority)
    assert names() == ["c", "a", "d", "b"]


def test_places_count_what_runs_and_what_waits_before() -> None:
    a_training(status="running")
    first, second = a_training(), a_training()
    places = Training.objects.places()
    assert (places[first.pk], places[second.pk]) == (Place(1, 0), Place(1, 1))
    assert places[second.pk].ahead == 2


def test_run_next_puts_a_run_before_all_others_and_twice_is_once() -> None:
    a_training(name="first", priority=Priority.HIGH)
    last = a_training(name="last", priority=Priority.LOW)
    for _ in range(2):
        assert Training.objects.run_next(last.pk)
        last.refresh_from_db()
        assert (names(), last.priority) == (["last", "first"], Priority.HIGH + 1)


def test_run_next_is_nothing_to_those_that_do_not_wait() -> None:
    running, alone = a_training(status="running"), a_training(priority=3)
    assert not Training.objects.run_next(running.pk)
    assert Training.objects.run_next(alone.pk)
    alone.refresh_from_db()
    assert alone.priority == 3


@pytest.mark.parametrize("way", ["handed back", "lost", "stood still"])
def test_an_interrupted_run_goes_on_before_those_that_came_later(way: str) -> None:
    old = a_training(name="old", queued_at=PAST)
    a_training(name="new")
    attempt = Training.objects.claim(old.pk, "worker")
    assert attempt == 1
    match way:
        case "handed back":
            assert Training.objects.hand_back(old.pk, attempt)
        case "lost":
            Training.objects.filter(pk=old.pk).update(lease_expires_at=PAST)
            assert Training.objects.requeue_lost(old.pk)
        case _:
            assert Training.objects.interrupt(old.pk, attempt, "It stood still.")
    assert names() == ["old", "new"]


def test_a_restarted_run_waits_behind_its_equals() -> None:
    old = a_training(name="old", queued_at=PAST, status="failed")
    a_training(name="new")
    assert Training.objects.restart(old.pk, from_scratch=False)
    assert names() == ["new", "old"]
