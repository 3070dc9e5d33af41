"""Writing a checkpoint holds up training no longer than a copy takes, and loses nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from workers.engine import checkpoint, events, machine
from workers.engine.checkpoint import Saved
from workers.engine.config import RunSpec
from workers.engine.saver import Saver
from workers.engine.train import train


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """A disk that writes nothing until it is set."""
    ready, save = threading.Event(), checkpoint.save

    def wait(*args: object) -> Saved:
        assert ready.wait(60)
        return save(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoint, "save", wait)
    return ready


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_training_goes_on_while_the_disk_is_slow(
    tmp_path: Path, disk: threading.Event, device: str
) -> None:
    weights, counts = torch.ones(3, device=device), [1, 2]
    with Saver(tmp_path) as saver:
        assert list(saver.begin(10, {"w": weights}, {"counts": counts}, 0.5)) == []
        weights += 1  # the next step
        counts[0] += 1
        assert list(saver.done()) == []
        disk.set()
        (told,) = saver.wait()
        assert list(saver.begin(20, {"w": weights}, {}, None)) == []
        (later,) = saver.wait()
    assert torch.equal(checkpoint.load(Path(later.checkpoint_path))[0]["w"], torch.full((3,), 2.0))
    tensors, numbers = checkpoint.load(Path(told.checkpoint_path))
    assert (told.step, told.fvu) == (10, 0.5)
    assert torch.equal(tensors["w"], torch.ones(3))  # as it was at step 10
    assert numbers["counts"] == [1, 2]


def test_without_memory_for_a_copy_training_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(machine, "left_bytes", lambda: 100)
    weights = torch.ones(1000)
    with Saver(tmp_path) as saver:
        (told,) = saver.begin(10, {"w": weights}, {}, None)
        weights += 1
        assert list(saver.wait()) == []
        assert told.stalled_seconds >= told.seconds
        assert list(saver.begin(20, {"w": torch.ones(3)}, {}, None)) == []  # a small one fits
    assert "Memory is short" in caplog.text
    tensors, _ = checkpoint.load(Path(told.checkpoint_path))
    assert torch.equal(tensors["w"], torch.ones(1000))


def test_waiting_for_the_disk_is_a_sign_of_life(tmp_path: Path, disk: threading.Event) -> None:
    beats: list[int] = []

    def beat() -> None:
        beats.append(1)
        disk.set()

    with Saver(tmp_path, beat) as saver:
        list(saver.begin(10, {"w": torch.ones(1)}, {}, None))
        assert len(list(saver.wait())) == 1
    assert beats


def test_one_that_is_due_early_waits_for_the_one_before(
    tmp_path: Path, disk: threading.Event
) -> None:
    with Saver(tmp_path) as saver:
        list(saver.begin(10, {"w": torch.ones(1)}, {}, None))
        threading.Timer(0.05, disk.set).start()
        (first,) = saver.begin(20, {"w": torch.ones(1)}, {}, None)
        (second,) = saver.wait()
    assert (first.step, second.step) == (10, 20)
    assert second.stalled_seconds > 0.01


def test_what_goes_wrong_in_the_thread_reaches_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> Saved:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save", fail)
    with Saver(tmp_path) as saver:
        list(saver.begin(10, {}, {}, None))
        with pytest.raises(OSError, match="No space left"):
            list(saver.wait())


def test_a_run_stands_still_for_less_than_a_twentieth_of_its_time(
    make_spec: Callable[..., RunSpec], tmp_path: Path
) -> None:
    """At a tenth of the smallest interval a run may have."""
    spec = make_spec("standard", latent_dim=1024, num_steps=300, checkpoint_interval=100)
    stalled = begun = ended = 0.0
    for event in train(spec, tmp_path):
        if isinstance(event, events.Phase):
            begun = time.perf_counter() if event.phase == "training" else begun
            ended = time.perf_counter() if event.phase == "evaluating" else ended
        if isinstance(event, events.CheckpointSaved):
            stalled += event.stalled_seconds
    assert 0 < stalled < 0.05 * (ended - begun)
