"""A training is rehearsed in a child process: its figures, its failures, and its end in time."""

from __future__ import annotations

import json
import os
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import wait_for
from tests.rows import FIGURES, a_rehearsal, a_training
from tests.tiny import seed
from tests.workers.test_supervisor import in_thread
from trainings.models import Rehearsal, Tokenization
from workers import fleet, process, rehearsal
from workers.engine.config import Hyperparameters, TrainingConfig

pytestmark = pytest.mark.django_db(transaction=True)

Install = Callable[[str], None]
SMALL = {"num_steps": 1000, "batch_size": 512, "latent_dim": 64, "buffer_tokens": 8192}
CONFIG = TrainingConfig(
    architecture="standard", layer=1, hyperparameters=Hyperparameters.below_ranges(**SMALL)
)


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a script in the engine's place."""

    def install(body: str) -> None:
        script = tmp_path / "child.py"
        script.write_text("import json, os, signal, sys, time\n" + textwrap.dedent(body))
        monkeypatch.setattr(process, "ENGINE", (str(script),))

    return install


def run(row: Rehearsal) -> Rehearsal:
    assert rehearsal.run(str(row.pk), "worker")
    row.refresh_from_db()
    return row


def measured(**figures: object) -> str:
    """A child that says these figures."""
    event = {"event": "rehearsed", "step": 0} | FIGURES | figures
    return f"print(json.dumps(json.loads({json.dumps(event)!r})))"


def endless(tmp_path: Path, child: Install, row: Rehearsal) -> tuple[threading.Thread, int]:
    """A measurement that would last for ever, in a thread, and the process it runs in."""
    path = tmp_path / "pid"
    child(f"open({str(path)!r}, 'w').write(str(os.getpid())); signal.pause()")
    thread = in_thread(lambda: rehearsal.run(str(row.pk), "worker"))
    pid = int(wait_for(lambda: path.exists() and path.read_text(), "the child"))
    return thread, pid


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_engine_measures_a_real_model_and_leaves_nothing(home: Path) -> None:
    seed()
    before = sorted(home.rglob("*"))
    row = run(Rehearsal.objects.ask(Tokenization.objects.get(), CONFIG))
    assert (row.status, row.error_message) == ("done", "")
    assert set(row.figures) == set(FIGURES)
    assert row.figures["device"] in ("cpu", "cuda")
    assert 0 < row.figures["memory_bytes"] < row.figures["memory_available_bytes"]
    assert row.ended_at is not None
    assert not row.beside_training
    assert sorted(home.rglob("*")) == before


def test_broken_tokenization_is_one_sentence(home: Path) -> None:
    seed()
    (tokens,) = home.glob("tokenizations/*/tokens.bin")
    tokens.write_bytes(tokens.read_bytes()[:100])
    row = run(Rehearsal.objects.ask(Tokenization.objects.get(), CONFIG))
    assert row.status == "failed"
    assert "tokenize the text again" in row.error_message


def test_rehearsal_is_measured_by_one_worker_only() -> None:
    row = a_rehearsal(CONFIG, status="running", attempt=1)
    assert not rehearsal.run(str(row.pk), "a second worker")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "ran out of memory"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "(SIGSEGV)"),
        ("sys.exit(3)", "(exit code 3)"),
        ('print(json.dumps({"event": "failed", "error": "No memory."}))', "No memory."),
    ],
)
def test_child_that_fails_fails_the_measurement_with_a_sentence(
    child: Install, body: str, words: str
) -> None:
    child(body)
    row = run(a_rehearsal(CONFIG))
    assert row.status == "failed"
    assert words in row.error_message


def test_child_that_hangs_is_ended(child: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "LONGEST", 0.5)
    child("signal.pause()")
    assert "Nothing was measured within" in run(a_rehearsal(CONFIG)).error_message


def test_training_at_the_same_time_is_remembered(child: Install) -> None:
    child(measured())
    a_training(status="running")
    row = run(a_rehearsal(CONFIG))
    assert (row.status, row.beside_training) == ("done", True)


def test_worker_that_shuts_down_leaves_the_measurement_to_the_next_one(
    child: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, ending = a_rehearsal(CONFIG), threading.Event()
    monkeypatch.setattr(fleet, "shutting_down", ending)
    thread, pid = endless(tmp_path, child, row)
    ending.set()
    thread.join(30)
    assert not thread.is_alive()
    assert is_gone(pid)
    row.refresh_from_db()
    assert (row.status, row.lease_expires_at) == ("pending", None)


def test_measurement_that_was_taken_over_or_deleted_loses_its_child(
    child: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "RENEW_EVERY", 0.1)
    thread, pid = endless(tmp_path, child, a_rehearsal(CONFIG))
    Rehearsal.objects.all().delete()
    thread.join(30)
    assert not thread.is_alive()
    assert is_gone(pid)


def test_lease_is_renewed_while_the_child_measures(
    child: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "RENEW_EVERY", 0.1)
    row = a_rehearsal(CONFIG)
    thread, _ = endless(tmp_path, child, row)
    first = Rehearsal.objects.get(pk=row.pk).lease_expires_at
    assert first is not None
    wait_for(
        lambda: Rehearsal.objects.filter(pk=row.pk, lease_expires_at__gt=first).exists(),
        "the lease to be renewed",
    )
    Rehearsal.objects.all().delete()
    thread.join(30)
    assert not thread.is_alive()


def test_child_is_told_no_secret(child: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAESTUDIO_SECRET_KEY", "hush")
    child(
        """
        said = os.environ.get("SAESTUDIO_SECRET_KEY", "nothing")
        print(json.dumps({"event": "failed", "error": said}))
        """
    )
    assert run(a_rehearsal(CONFIG)).error_message == "nothing"
