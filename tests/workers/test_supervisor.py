"""The supervisor against children that misbehave: each is a real process."""

from __future__ import annotations

import os
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connections

from tests.conftest import wait_for
from tests.rows import a_training
from trainings import live
from trainings.models import Training
from workers import fleet, process, supervisor
from workers.attempt import run_spec

pytestmark = pytest.mark.django_db(transaction=True)

STARTED = """
import json, os, signal, sys, time
def say(**event):
    print(json.dumps(event), flush=True)
say(event="started", step=0, resumed_from=None)
"""
STOPPED = """
def stop(*_):
    say(event="stopped", step=7, sae_path=None, final_loss=0.5, evaluation=None,
        export={"format": "none"})
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
def pause(*_):
    say(event="paused", step=7)
    sys.exit(0)
signal.signal(signal.SIGUSR1, pause)
"""


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path):  # type: ignore[no-untyped-def]
    """Puts a script in the engine's place."""
    monkeypatch.setattr(live, "publish", lambda *_: None)

    def install(body: str) -> None:
        script = tmp_path / "child.py"
        script.write_text(STARTED + textwrap.dedent(body), encoding="utf-8")
        monkeypatch.setattr(process, "ENGINE", (str(script),))

    return install


def test_a_worker_takes_the_first_of_the_queue_whichever_it_was_told_of(child) -> None:  # type: ignore[no-untyped-def]
    child("say(event='failed', error='enough', step=0)")
    a_training(name="later"), a_training(name="urgent", priority=10)
    held = a_training(name="held elsewhere", priority=20, status="running")
    found = [supervisor.run_next("worker") for _ in range(3)]
    runs = [Training.objects.get(pk=pk).name for pks in found for pk in pks]
    assert (runs, found[-1]) == (["urgent", "later"], [])
    held.refresh_from_db()
    assert held.attempt == 0


def run(training: Training) -> Training:
    assert supervisor.run(str(training.pk), "worker")
    training.refresh_from_db()
    return training


def in_thread(work: Callable[[], object]) -> threading.Thread:
    """A started thread that gives its database connections back."""

    def do() -> None:
        try:
            work()
        finally:
            connections.close_all()

    thread = threading.Thread(target=do)
    thread.start()
    return thread


def test_a_killed_child_fails_its_run_with_a_readable_reason(child) -> None:  # type: ignore[no-untyped-def]
    child("os.kill(os.getpid(), signal.SIGKILL)")
    training = run(a_training())
    assert training.status == "failed"
    assert "killed (SIGKILL)" in training.error_message


def test_a_crash_fails_its_run_and_not_the_worker(child) -> None:  # type: ignore[no-untyped-def]
    child("os.kill(os.getpid(), signal.SIGSEGV)")
    training = run(a_training())
    assert (training.status, "SIGSEGV" in training.error_message) == ("failed", True)


def test_a_child_that_ends_without_a_word_is_a_failure(child) -> None:  # type: ignore[no-untyped-def]
    child("sys.exit(0)")
    assert run(a_training()).status == "failed"


def test_what_is_no_event_is_passed_over(child) -> None:  # type: ignore[no-untyped-def]
    child(
        """
        print("hello"); print("[1, 2]"); print("{}")
        say(event="failed", step=3, error="The loss is not finite.")
        """
    )
    assert run(a_training()).error_message == "The loss is not finite."


def test_stop_reaches_the_child_and_the_row(child, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    child(STOPPED + f"open({str(tmp_path / 'listens')!r}, 'w').write('yes'); signal.pause()")
    training = a_training()
    thread = in_thread(lambda: run(training))
    wait_for(lambda: _text(tmp_path / "listens"), "the child to listen")
    Training.objects.request_stop(training.pk)
    thread.join(30)
    training.refresh_from_db()
    assert (training.status, training.current_step) == ("stopped", 7)


def test_a_worker_that_shuts_down_leaves_the_run_to_the_next_one(
    child, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    child(STOPPED + "signal.pause()")
    ending = threading.Event()
    ending.set()
    monkeypatch.setattr(fleet, "shutting_down", ending)
    assert run(a_training()).status == "pending"


def test_a_run_that_was_taken_over_loses_its_child(child, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    child(f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)")
    training = a_training()
    thread = in_thread(lambda: supervisor.run(str(training.pk), "worker"))
    pid = int(wait_for(lambda: _text(tmp_path / "pid"), "the child"))
    Training.objects.filter(pk=training.pk).update(attempt=2)
    thread.join(30)
    assert not thread.is_alive()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    training.refresh_from_db()
    assert (training.status, training.attempt) == ("running", 2)


def test_the_child_is_told_no_secret(child, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("SAESTUDIO_SECRET_KEY", "hush")
    child('say(event="failed", step=0, error=os.environ.get("SAESTUDIO_SECRET_KEY", "nothing"))')
    assert run(a_training()).error_message == "nothing"


def test_an_attempt_resumes_from_its_own_line_of_checkpoints(home: Path) -> None:
    training = a_training(attempt=3, fresh_since_attempt=2)
    for attempt, step in ((1, 900), (2, 100), (2, 200)):
        training.checkpoints.create(
            attempt=attempt, step=step, path=f"/{attempt}/{step}", size_bytes=1, sha256="x"
        )
    spec = run_spec(training, 3)
    assert [str(p) for p in spec.resume_from] == ["/2/200", "/2/100"]
    assert spec.ranks == 1


def test_a_run_on_several_gpus_is_one_of_as_many_ranks(home: Path) -> None:
    assert run_spec(a_training(hyperparameters={"gpus": 4}), 1).ranks == 4


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_a_stop_before_the_child_can_listen_is_no_failure(child) -> None:  # type: ignore[no-untyped-def]
    child("signal.pause()")
    training = a_training()
    thread = in_thread(lambda: run(training))
    wait_for(lambda: Training.objects.filter(pk=training.pk, phase="starting"), "the claim")
    Training.objects.request_stop(training.pk)
    thread.join(30)
    training.refresh_from_db()
    assert (training.status, training.error_message) == ("stopped", None)
