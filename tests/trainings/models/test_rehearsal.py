"""A measurement is asked for once, made by one worker, never waited for in vain, and forgotten."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tests.rows import FIGURES, a_rehearsal, a_tokenization
from trainings.models import Rehearsal, Tokenization
from trainings.models.rehearsal import MAX_INTERRUPTIONS
from workers.engine.config import TrainingConfig

pytestmark = pytest.mark.django_db

PAST = timezone.now() - timedelta(minutes=5)
CONFIG = TrainingConfig(architecture="standard", layer=1)


def ask(seen: int = 0, config: TrainingConfig = CONFIG) -> Rehearsal:
    return Rehearsal.objects.ask(a_tokenization(), config, seen)


def test_asking_twice_measures_once(nudges: list[tuple[str, Any]]) -> None:
    first, second = ask(), ask()
    assert first.pk == second.pk
    assert nudges == [("rehearse", first)]


def test_what_was_measured_is_found_for_the_same_configuration_only(nudges: Any) -> None:
    rehearsal, tokenization = ask(), a_tokenization()
    assert Rehearsal.objects.of(tokenization, CONFIG) == rehearsal
    other = TrainingConfig(architecture="standard", layer=2)
    assert Rehearsal.objects.of(tokenization, other) is None


def test_tokenization_made_anew_is_another_one_to_measure(nudges: Any) -> None:
    ask()
    Tokenization.objects.update(ready_at=timezone.now())
    assert Rehearsal.objects.of(Tokenization.objects.get(), CONFIG) is None


def test_outcome_is_measured_again_by_whoever_saw_it(nudges: list[tuple[str, Any]]) -> None:
    rehearsal = a_rehearsal(CONFIG, status="done", attempt=3, figures=FIGURES)
    assert ask(seen=2).status == "done"
    assert nudges == []
    again = ask(seen=3)
    assert (again.pk, again.status, again.figures) == (rehearsal.pk, "pending", {})
    ask(seen=3)
    assert nudges == [("rehearse", rehearsal)]


def test_only_one_worker_measures_and_an_old_attempt_changes_nothing() -> None:
    pk = a_rehearsal(CONFIG).pk
    assert Rehearsal.objects.claim(pk, "first") == 1
    assert Rehearsal.objects.claim(pk, "second") is None
    Rehearsal.objects.filter(pk=pk).update(attempt=2)
    assert not Rehearsal.objects.finish(pk, 1, FIGURES, beside=False)
    assert not Rehearsal.objects.fail(pk, 1, "too late")
    assert Rehearsal.objects.get(pk=pk).status == "running"


def test_lost_measurement_starts_anew_a_few_times_and_then_fails() -> None:
    pk = a_rehearsal(CONFIG).pk
    rows = Rehearsal.objects.filter(pk=pk)
    for _ in range(MAX_INTERRUPTIONS):
        rows.update(status="running", lease_expires_at=PAST)
        assert Rehearsal.objects.requeue_lost(pk)
    rows.update(status="running", lease_expires_at=PAST)
    assert not Rehearsal.objects.requeue_lost(pk)
    assert Rehearsal.objects.give_up(pk, "lost too often")
    assert (rows.get().status, rows.get().error_message) == ("failed", "lost too often")


def test_measurement_with_a_live_lease_is_neither_lost_nor_given_up() -> None:
    pk = a_rehearsal(CONFIG).pk
    Rehearsal.objects.claim(pk, "worker")
    assert not Rehearsal.objects.requeue_lost(pk)
    assert not Rehearsal.objects.give_up(pk, "why?")


def test_measurement_nobody_took_is_forgotten_after_an_hour() -> None:
    pk = a_rehearsal(CONFIG, asked_at=timezone.now() - timedelta(minutes=50)).pk
    assert not Rehearsal.objects.forgotten().exists()
    Rehearsal.objects.update(asked_at=timezone.now() - timedelta(minutes=70))
    assert Rehearsal.objects.forgotten().get().pk == pk
    assert Rehearsal.objects.give_up(pk, "nobody came")


def test_old_outcomes_are_forgotten_and_young_ones_kept() -> None:
    old, young = timezone.now() - timedelta(days=31), timezone.now() - timedelta(days=29)
    a_rehearsal(CONFIG, status="done", ended_at=old)
    kept = a_rehearsal(TrainingConfig(architecture="skip", layer=1), status="done", ended_at=young)
    waiting = a_rehearsal(TrainingConfig(architecture="jumprelu", layer=1), asked_at=old)
    assert Rehearsal.objects.prune() == 1
    assert set(Rehearsal.objects.all()) == {kept, waiting}


def test_place_in_the_queue_counts_what_the_workers_take_first() -> None:
    rehearsal = a_rehearsal(CONFIG)
    assert rehearsal.ahead == 0
    other = TrainingConfig(architecture="skip", layer=1)
    a_rehearsal(other, asked_at=rehearsal.asked_at - timedelta(seconds=1))
    tokenization = a_tokenization()
    Tokenization.objects.create(
        model=tokenization.model, dataset=tokenization.dataset, context_length=128, status="running"
    )
    assert rehearsal.ahead == 2
    Rehearsal.objects.filter(pk=rehearsal.pk).update(status="running")
    rehearsal.refresh_from_db()
    assert rehearsal.ahead == 0
