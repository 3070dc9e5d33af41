"""What a run says reaches the database once, in order, and only from the attempt that holds it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.rows import a_training
from trainings import live
from trainings.models import Training
from workers.recorder import LeaseLost, Recorder

pytestmark = pytest.mark.django_db


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, dict[str, Any]]]:
    """What was published, instead of sending it."""
    sent: list[tuple[str, int, dict[str, Any]]] = []
    monkeypatch.setattr(
        live, "publish", lambda event, pk, seq, data: sent.append((event, seq, data))
    )
    return sent


@pytest.fixture
def training(told: object) -> Training:
    training = a_training()
    Training.objects.claim(training.pk, "worker")
    training.refresh_from_db()
    return training


def progress(step: int, **values: Any) -> dict[str, Any]:
    return {"event": "progress", "step": step, "loss": 0.5, "l0": 32.0, "fvu": 0.1, **values}


def ended(kind: str, sae_path: str | None = "/sae") -> dict[str, Any]:
    return {
        "event": kind,
        "step": 100,
        "sae_path": sae_path,
        "final_loss": 0.25,
        "evaluation": {"fvu": 0.1},
        "export": {"format": "saelens"},
    }


def test_points_become_rows_and_the_newest_the_cards_numbers(training: Training) -> None:
    recorder = Recorder(training.pk, 1)
    for step in (10, 20):
        recorder.take(progress(step, dead_neurons=3))
    recorder.flush()
    training.refresh_from_db()
    assert [m.step for m in training.metrics.all()] == [10, 20]
    assert (training.current_step, training.latest["dead_neurons"]) == (20, 3)


def test_many_points_go_out_as_one_message_with_all_of_them(training: Training, told: Any) -> None:
    told.clear()
    recorder = Recorder(training.pk, 1)
    for step in range(1, 6):
        recorder.take(progress(step))
    recorder.flush()
    [(event, _, data)] = told
    assert (event, data["step"]) == ("progress", 5)
    assert [p["step"] for p in data["points"]] == [1, 2, 3, 4, 5]


def test_each_message_has_the_next_seq(training: Training, told: Any) -> None:
    told.clear()
    recorder = Recorder(training.pk, 1)
    recorder.take({"event": "phase", "phase": "training", "step": 0})
    recorder.flush()
    recorder.take(progress(10))
    recorder.take(ended("completed"))
    recorder.flush()
    first = training.event_seq + 1
    assert [(e, s) for e, s, _ in told] == [
        ("phase", first),
        ("progress", first + 1),
        ("completed", first + 2),
    ]


def test_another_attempt_writes_nothing(training: Training) -> None:
    recorder = Recorder(training.pk, 1)
    recorder.take(progress(10))
    Training.objects.filter(pk=training.pk).update(attempt=2)
    with pytest.raises(LeaseLost):
        recorder.flush()
    assert not training.metrics.exists()


def test_a_resumed_run_replaces_what_came_after_its_checkpoint(training: Training) -> None:
    recorder = Recorder(training.pk, 1)
    for step in (10, 20, 30):
        recorder.take(progress(step))
    recorder.flush()
    recorder.take({"event": "started", "step": 20, "resumed_from": 20})
    recorder.take(progress(30, loss=0.1))
    recorder.flush()
    assert [(m.step, m.loss) for m in training.metrics.all()] == [(10, 0.5), (20, 0.5), (30, 0.1)]


def test_a_completed_run_has_its_sae(training: Training) -> None:
    recorder = Recorder(training.pk, 1)
    recorder.take(ended("completed"))
    recorder.flush()
    training.refresh_from_db()
    assert (training.status, training.final_loss, training.sae.path) == ("completed", 0.25, "/sae")
    assert training.lease_expires_at is None


def test_a_checkpoint_is_listed_and_counts_as_progress(training: Training) -> None:
    Training.objects.filter(pk=training.pk).update(interruptions=2)
    recorder = Recorder(training.pk, 1)
    recorder.take(
        {"event": "checkpoint", "step": 50, "checkpoint_path": "/c", "bytes": 9, "sha256": "ab"}
    )
    recorder.flush()
    training.refresh_from_db()
    assert [c.step for c in training.checkpoints.all()] == [50]
    assert training.interruptions == 0


def test_a_value_that_is_no_number_leaves_a_gap(training: Training) -> None:
    recorder = Recorder(training.pk, 1)
    recorder.take(progress(10, fvu=None))
    recorder.flush()
    assert training.metrics.get().fvu is None


def test_a_warning_is_kept_once_per_kind(training: Training) -> None:
    recorder = Recorder(training.pk, 1)
    for step in (1, 2):
        recorder.take({"event": "warning", "code": "dead", "message": f"at {step}", "step": step})
    recorder.flush()
    training.refresh_from_db()
    assert [w["message"] for w in training.run_warnings] == ["at 2"]
