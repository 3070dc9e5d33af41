"""Files that are harmed, disks that are full or cannot be written: the real engine throughout."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Fault
from tests.rows import a_training
from tests.tiny import seed
from trainings import live
from trainings.models import Checkpoint, Training
from workers import process, supervisor
from workers.engine import crash

pytestmark = [pytest.mark.fault, pytest.mark.django_db(transaction=True)]

INTERVAL = 20
RUN: dict[str, Any] = {
    "num_steps": 100,
    "batch_size": 256,
    "buffer_tokens": 4096,
    "checkpoint_interval": INTERVAL,
    "log_interval": 5,
    "held_out_tokens": 1024,
    "latent_dim": 512,
}
MEGABYTE = 2**20


@pytest.fixture(autouse=True)
def prepared(home: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """Model and tokens in this test's data folder, and nobody to publish to."""
    monkeypatch.setattr(live, "publish", lambda *_: None)
    settings.CACHE_LIMIT = 0
    seed()


@pytest.fixture
def small_disk(home: Path) -> Iterator[Callable[[str], None]]:
    """The trainings' folder on a disk of 8 MB of its own; gives a way to mount it differently."""
    place = home / "trainings"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], capture_output=True
    )
    if done.returncode:
        pytest.skip("mounting is not permitted here")

    def remount(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)

    yield remount
    subprocess.run(["umount", str(place)], check=True)


def run(training: Training) -> Training:
    supervisor.run(str(training.pk), "worker")
    training.refresh_from_db()
    return training


def again(training: Training) -> Training:
    assert Training.objects.restart(training.pk, from_scratch=False)
    return run(training)


def killed_at(
    monkeypatch: pytest.MonkeyPatch, point: str, training: Training | None = None
) -> Training:
    """A run whose process was killed at a named point."""
    with monkeypatch.context() as patch:
        patch.setenv(crash.VARIABLE, point)
        return run(training or a_training(hyperparameters=RUN))


def truncated(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def zeroed(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


@pytest.mark.parametrize(
    "harm",
    [
        flipped,
        pytest.param(truncated, marks=pytest.mark.long),
        pytest.param(zeroed, marks=pytest.mark.long),
    ],
)
def test_newest_checkpoint_is_harmed(
    fault: Fault, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Path], None]
) -> None:
    """Newest checkpoint is harmed: it is set aside, the one before is
    used, and the page says so."""
    training = killed_at(monkeypatch, "checkpoint.begun:4")
    assert training.status == "failed"
    newest = Checkpoint.objects.filter(training=training).latest("step")
    assert newest.step == 3 * INTERVAL
    harm(Path(newest.path, "tensors.safetensors"))
    training = again(training)
    assert training.status == "completed"
    fault.measured["steps repeated"] = newest.step - training.run_facts["resumed_from"]
    assert training.run_facts["resumed_from"] == 2 * INTERVAL
    (warning,) = [w for w in training.run_warnings if w["code"].startswith("checkpoint_set_aside")]
    assert "was not used" in warning["message"]


@pytest.mark.long
@pytest.mark.parametrize("point", [p for p in crash.POINTS if p.startswith("checkpoint")])
def test_killed_inside_a_checkpoint(
    fault: Fault, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Killed inside a checkpoint, the first or a later one: the newest whole one is used, and
    nothing half-written or untold is left."""
    for count, possible in ((1, {None}), (3, {2 * INTERVAL})):
        training = again(killed_at(monkeypatch, f"{point}:{count}"))
        assert training.status == "completed"
        assert training.run_facts["resumed_from"] in possible
        told = set(Checkpoint.objects.filter(training=training).values_list("path", flat=True))
        there = {str(path) for path in training.folder.glob("attempt-*/checkpoints/*")}
        assert there == told
    fault.measured["steps repeated, at most"] = INTERVAL


@pytest.mark.long
def test_disk_is_full_at_a_checkpoint(
    fault: Fault, monkeypatch: pytest.MonkeyPatch, small_disk: Callable[[str], None]
) -> None:
    """Disk full at a checkpoint: the run fails with the reason, the checkpoints before are whole,
    and with room it goes on."""
    training = killed_at(monkeypatch, "checkpoint.begun:3")
    filler = training.folder.parent / "filler"
    free = os.statvfs(filler.parent)
    filler.write_bytes(bytes(free.f_bavail * free.f_frsize - 100_000))
    training = again(training)
    assert training.status == "failed"
    assert "disk is full" in (training.error_message or "")
    filler.unlink()
    training = again(training)
    assert training.status == "completed"
    fault.measured["steps lost"] = 2 * INTERVAL - training.run_facts["resumed_from"]
    assert training.run_facts["resumed_from"] == 2 * INTERVAL


def test_disk_has_no_room_before_the_start(
    fault: Fault, home: Path, small_disk: Callable[[str], None]
) -> None:
    """Disk without room for one checkpoint: the run fails before its first step, with figures."""
    free = os.statvfs(home / "trainings")
    (home / "trainings" / "filler").write_bytes(bytes(free.f_bavail * free.f_frsize - 100_000))
    training = run(a_training(hyperparameters=RUN))
    assert training.status == "failed"
    assert "a checkpoint and the SAE" in (training.error_message or "")
    fault.measured["steps trained in vain"] = training.current_step
    assert training.current_step == 0


def test_folder_cannot_be_written(
    fault: Fault, monkeypatch: pytest.MonkeyPatch, small_disk: Callable[[str], None]
) -> None:
    """Read-only folder: the run fails at once with a readable cause, and goes on once it is
    writable."""
    training = killed_at(monkeypatch, "checkpoint.begun:3")
    small_disk("ro")
    with fault.timed("failed after"):
        training = again(training)
    assert training.status == "failed"
    assert "Read-only" in (training.error_message or "")
    small_disk("rw")
    training = again(training)
    fault.measured["steps lost"] = 2 * INTERVAL - training.run_facts["resumed_from"]
    assert training.status == "completed"


def test_loss_is_no_number(fault: Fault) -> None:
    """Activations that are no numbers: the run stops within ten steps and says so."""
    from safetensors.torch import load_file, save_file

    training = a_training(hyperparameters=RUN)
    file = Path(training.model.folder, "model.safetensors")
    weights = load_file(file)
    weights["model.layers.1.mlp.down_proj.weight"].fill_(float("nan"))
    save_file(weights, file, {"format": "pt"})
    training = run(training)
    assert training.status == "failed"
    assert "no longer a finite number" in (training.error_message or "")
    fault.measured["steps made"] = training.current_step
    assert training.current_step <= 10


@pytest.mark.parametrize(
    "point",
    [
        "checkpoint.tensors",
        "checkpoint.begun",
        "checkpoint.renamed",
    ],
)
@pytest.mark.long
def test_stop_is_asked_inside_a_checkpoint(
    fault: Fault, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Stop asked inside a checkpoint: that one and the last one are whole, and the SAE is there."""
    training = killed_at(monkeypatch, f"{point}:2:SIGTERM")
    assert training.status == "stopped"
    assert Path(training.sae_path or "").is_dir()
    steps = set(Checkpoint.objects.filter(training=training).values_list("step", flat=True))
    assert {2 * INTERVAL, training.current_step} <= steps
    fault.measured["steps after it was asked"] = training.current_step - 2 * INTERVAL
    training = again(training)
    assert (training.status, training.current_step) == ("completed", RUN["num_steps"])


SHORT_OF_MEMORY = """
import os, sys
sys.path.insert(0, os.getcwd())
import torch
from workers.engine.__main__ import main
from workers.engine.language_model import LanguageModel
whole, passes = LanguageModel._pass, 0
def limited(self, part):
    global passes
    passes += 1
    if passes > {after} and len(part) > {fits}:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    return whole(self, part)
LanguageModel._pass = limited
sys.exit(main())
"""


@pytest.fixture
def short_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., contextlib.AbstractContextManager[None]]:
    """The real engine on a device that runs out of memory after some forward passes."""

    @contextlib.contextmanager
    def short(*, after: int, fits: int) -> Iterator[None]:
        script = tmp_path / "short.py"
        script.write_text(SHORT_OF_MEMORY.format(after=after, fits=fits), encoding="utf-8")
        with monkeypatch.context() as patch:
            patch.setattr(process, "ENGINE", (str(script),))
            yield

    return short


@pytest.mark.long  # the engine's own tests of the same are in every run
def test_memory_ends(
    fault: Fault, short_of_memory: Callable[..., contextlib.AbstractContextManager[None]]
) -> None:
    """Device out of memory in mid-run: what fits in parts goes on in parts and says so; where
    nothing fits the run fails with what to choose instead, and goes on once there is room."""
    with short_of_memory(after=3, fits=2):
        training = run(a_training(hyperparameters=RUN))
    assert training.status == "completed"
    assert "forward_passes" in {warning["code"] for warning in training.run_warnings}
    with short_of_memory(after=5, fits=0):
        training = run(a_training(hyperparameters=RUN))
    assert training.status == "failed"
    assert "pass over one context" in (training.error_message or "")
    kept = training.current_step
    assert kept > 0
    training = again(training)
    assert training.status == "completed"
    fault.measured["steps repeated"] = kept - (training.run_facts["resumed_from"] or 0)
    assert fault.measured["steps repeated"] <= INTERVAL + RUN["log_interval"]
