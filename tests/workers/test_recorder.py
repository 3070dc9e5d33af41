"""What a run says reaches the database once, in order, and only from the attempt that holds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.rows import a_training
from trainings import live
from trainings.models import Checkpoint, Training
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


def test_a_checkpoint_is_listed_and_counts_as_progress(training: Training, tmp_path: Path) -> None:
    Training.objects.filter(pk=training.pk).update(interruptions=2)
    recorder = Recorder(training.pk, 1)
    recorder.take(saved(50, tmp_path))
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


def saved(step: int, folder: Path, fvu: float | None = 0.5) -> dict[str, Any]:
    """A checkpoint as the engine tells of it, its folder on the disk."""
    path = folder / f"step-{step:06d}"
    path.mkdir(parents=True)
    (path / "tensors.safetensors").write_bytes(b"x")
    return {
        "event": "checkpoint",
        "step": step,
        "checkpoint_path": str(path),
        "bytes": 1,
        "sha256": "0" * 64,
        "seconds": 0.1,
        "stalled_seconds": 0.0,
        "fvu": fvu,
    }


def steps(training: Training) -> list[int]:
    return sorted(training.checkpoints.values_list("step", flat=True))


def test_the_newest_three_the_best_and_the_pinned_are_kept(
    training: Training, tmp_path: Path
) -> None:
    recorder = Recorder(training.pk, 1)
    fvus = {1: 0.9, 2: 0.1, 3: None, 4: 0.4, 5: 0.4, 6: 0.5, 7: 0.6}
    for step, fvu in fvus.items():
        recorder.take(saved(step, tmp_path, fvu))
        recorder.flush()
        training.checkpoints.filter(step=4).update(pinned=True)
    assert steps(training) == [2, 4, 5, 6, 7]
    assert [int(folder.name[5:]) for folder in sorted(tmp_path.iterdir())] == [2, 4, 5, 6, 7]


def test_a_supervisor_whose_run_was_taken_over_deletes_nothing(
    training: Training, tmp_path: Path
) -> None:
    recorder = Recorder(training.pk, 1)
    for step in range(1, 4):
        recorder.take(saved(step, tmp_path))
    recorder.flush()
    recorder.take(saved(4, tmp_path))
    Training.objects.filter(pk=training.pk).update(attempt=2)
    with pytest.raises(LeaseLost):
        recorder.flush()
    assert len(list(tmp_path.iterdir())) == 4
    assert steps(training) == [1, 2, 3]


def test_what_a_run_begun_again_left_goes_with_the_new_ones_first_checkpoint(
    training: Training, tmp_path: Path
) -> None:
    for step in (800, 900):
        Checkpoint.objects.create(
            training=training,
            attempt=1,
            step=step,
            path=tmp_path / f"{step}",
            size_bytes=1,
            pinned=step == 900,
        )
    changes = {"attempt": 2, "fresh_since_attempt": 2}
    Training.objects.filter(pk=training.pk).update(**changes)
    recorder = Recorder(training.pk, 2)
    recorder.take(saved(10, tmp_path))
    recorder.flush()
    assert steps(training) == [10, 900]


def test_a_checkpoint_set_aside_is_told_and_never_tried_again(
    training: Training, tmp_path: Path
) -> None:
    recorder = Recorder(training.pk, 1)
    for step in (1, 2):
        recorder.take(saved(step, tmp_path))
    path = f"{tmp_path / 'step-000002'}"
    recorder.take(
        {
            "event": "checkpoint_set_aside",
            "step": 0,
            "checkpoint_path": path,
            "moved_to": f"{path}.harmed",
            "reason": "state.json is missing",
        }
    )
    recorder.flush()
    training.refresh_from_db()
    usable = Checkpoint.objects.of_this_run(training).usable()
    assert [checkpoint.step for checkpoint in usable] == [1]
    (warning,) = training.run_warnings
    assert "state.json is missing; it is kept as step-000002.harmed" in warning["message"]


def test_warnings_from_before_the_first_step_stay(training: Training) -> None:
    recorder = Recorder(training.pk, 1)
    for event in (
        {"event": "phase", "step": 0, "phase": "loading_model"},
        {"event": "warning", "step": 0, "code": "a", "message": "A."},
        {"event": "started", "step": 0, "resumed_from": None},
    ):
        recorder.take(event)
        recorder.flush()
    training.refresh_from_db()
    assert [warning["code"] for warning in training.run_warnings] == ["a"]


def started(resumed_from: int | None) -> dict[str, Any]:
    return {"event": "started", "step": resumed_from or 0, "resumed_from": resumed_from}


def test_marks_say_where_it_was_resumed_and_what_was_resampled(training: Training) -> None:
    def marks(*events: dict[str, Any]) -> list[tuple[str, int]]:
        recorder = Recorder(training.pk, 1)
        for event in events:
            recorder.take(event)
        recorder.flush()
        training.refresh_from_db()
        return [(mark["kind"], mark["step"]) for mark in training.marks]

    resampled = [{"event": "resampled", "step": step, "count": 3} for step in (50, 150)]
    assert marks(started(None), *resampled) == [("resampled", 50), ("resampled", 150)]
    # Step 150 is made again, so what was told of it goes.
    assert marks(started(100)) == [("resampled", 50), ("resumed", 100)]
    assert marks(started(None)) == []
