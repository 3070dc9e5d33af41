"""Training processes that misbehave, under a supervisor in this process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests import on_postgres
from tests.faults.conftest import Fault
from tests.rows import a_training
from tests.studio import wait_for
from trainings import logs
from trainings.models import Training, TrainingMetric
from workers import attempt, fleet, log, process, supervisor
from workers.engine.voice import NO_PULSE

pytestmark = [pytest.mark.fault, pytest.mark.django_db(transaction=True)]

# What PostgreSQL alone can do: end a connection, cut off a host; test_services.py locks the file.
ON_POSTGRES = pytest.mark.skipif(on_postgres.FOLDER not in os.environ, reason="on PostgreSQL alone")
SAY = """
import faulthandler, json, os, signal, sys, time
faulthandler.register(signal.SIGUSR2)
def say(**event):
    print(json.dumps(event), flush=True)
def completed(step):
    say(event="completed", step=step, sae_path=None, final_loss=0.5, evaluation=None,
        export={"format": "none"})
def point(step):
    say(event="progress", step=step, loss=1.0, l0=2.0, l1=1.0, reconstruction_loss=0.5, fvu=0.1)
say(event="phase", step=0, phase="loading_model")
say(event="started", step=0, resumed_from=None)
say(event="phase", step=0, phase="training")
"""
Install = Callable[[str], None]


def run(training: Training) -> Training:
    assert supervisor.run(str(training.pk), "worker")
    training.refresh_from_db()
    return training


def hurried(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """Stand-still is shown after a second and ended after three."""
    monkeypatch.setattr(process, "STILL", 1.0)
    settings.HUNG_SECONDS = 3


def test_training_hangs(
    child: Install, fault: Fault, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """Training process hangs while its lease is renewed: it is shown as standing still, ended after
    the limit with the place in its log, and queued again; after three times it fails."""
    hurried(monkeypatch, settings)
    child(SAY + "point(1)\ndef somewhere():\n    time.sleep(600)\nsomewhere()")
    seen: set[str] = set()
    whole = supervisor.Group._stands_still

    def watched(self: Any, child: Any) -> bool:
        seen.add(Training.objects.values_list("phase", flat=True).get())
        return whole(self, child)

    monkeypatch.setattr(supervisor.Group, "_stands_still", watched)
    with fault.timed("ended after, at a limit of 3 s"):
        training = run(a_training())
    assert "standing_still" in seen
    assert (training.status, training.interruptions) == ("pending", 1)
    assert "somewhere" in logs.tail(training.log_path)
    for _ in range(3):
        training = run(training)
    fault.measured["attempts before it fails"] = training.attempt
    assert training.status == "failed"
    assert "stood still" in (training.error_message or "")


def test_a_slow_run_is_no_hung_one(
    child: Install, fault: Fault, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """Training whose steps take longer than the limit: signs of life between its points keep it."""
    hurried(monkeypatch, settings)
    child(
        SAY
        + "for _ in range(12):\n    time.sleep(0.5)\n    say(event='beat')\npoint(1)\ncompleted(1)"
    )
    training = run(a_training())
    fault.measured["seconds between its points, at a limit of 3 s"] = "6"
    assert (training.status, training.attempt) == ("completed", 1)


@pytest.mark.parametrize("megabytes", [50, pytest.param(1000, marks=pytest.mark.long)])
def test_a_log_without_end(child: Install, fault: Fault, megabytes: int) -> None:
    """Training process that writes so many MB of log: the run goes on and the disk keeps 16 of
    them."""
    child(SAY + "line = b'x' * 99 + b'\\n'\n"
          f"for _ in range({megabytes}):\n    os.write(2, line * 10_000)\n"
          "os.write(2, b'the last line\\n')\npoint(1)\ncompleted(1)")  # fmt: skip
    with fault.timed("the whole run"):
        training = run(a_training())
    assert training.status == "completed"
    kept = sum(file.stat().st_size for file in training.log_path.parent.glob("log*"))
    fault.measured["kept on the disk"] = f"{kept / 2**20:.1f} MiB"
    assert kept <= 2 * log.MOST_BYTES + 2**17
    assert "the last line\n" in logs.tail(training.log_path)


def test_secrets_in_a_log(
    child: Install, fault: Fault, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    """Secrets printed by a training: none is in its log, and it has none of the studio's own."""
    token = "hf_" + "a1B2" * 8
    monkeypatch.setenv("SOME_API_KEY", "sesame-open-wide")
    monkeypatch.setenv("HF_TOKEN", token)
    child(
        SAY + f"print('{token} postgres://ada:lovelace@host/x', os.environ.get('SOME_API_KEY'), "
        "os.environ.get('HF_TOKEN'), file=sys.stderr)\ncompleted(1)"
    )
    training = run(a_training())
    shown = logs.tail(training.log_path)
    for secret in (token, "lovelace", "sesame-open-wide"):
        assert secret not in shown
    assert "[hidden] None\n" in shown
    assert token not in training.log_path.read_text()
    fault.measured["secrets shown"] = 0


def test_a_child_that_lingers(
    child: Install, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training process that does not end after its last word: the run is what it said, and the
    worker is free again."""
    monkeypatch.setattr(supervisor, "LINGER", 1.0)
    for body in ("time.sleep(600)", "os.close(1); sys.stdout = None; time.sleep(600)"):
        child(SAY + f"point(1)\ncompleted(1)\nsys.stdout.flush()\n{body}")
        with fault.timed("worker free after, at a limit of 1 s"):
            training = run(a_training())
        assert training.status == "completed"


def test_the_whole_group_is_told_to_end(
    child: Install, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM to worker and training process together, as service managers do: the run is queued
    again, since nobody asked for it to stop; without the worker it counts as stopped."""
    told = threading.Event()
    monkeypatch.setattr(fleet, "shutting_down", told)
    monkeypatch.setattr(attempt, "GROUP_SIGNAL", 0.2)
    child(
        SAY + "point(5)\nsay(event='stopped', step=5, sae_path=None, final_loss=0.5, "
        "evaluation=None, export={'format': 'none'})"
    )
    alone = run(a_training())
    assert alone.status == "stopped"
    told.set()
    both = run(a_training())
    assert (both.status, both.interruptions, both.current_step) == ("pending", 0, 5)
    fault.measured["runs stopped that nobody stopped"] = 0


def test_a_supervisor_that_fails(
    child: Install, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something unforeseen in a supervisor: its child is ended, and the run queued again at once
    with the cause, three times at most."""
    child(SAY + "point(1)\ntime.sleep(600)")

    def break_(*_: object) -> bool:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(supervisor.Group, "_stands_still", break_)
    training = run(a_training())
    assert (training.status, training.interruptions) == ("pending", 1)
    for _ in range(3):
        training = run(training)
    assert training.status == "failed"
    assert "ZeroDivisionError: a bug" in (training.error_message or "")
    fault.measured["attempts before it fails"] = training.attempt


@pytest.mark.parametrize(
    "line",
    ['{"a":' + "[" * 100_000, "[]", "5", "words", '{"event": "failed", "error": "\\u0000"}'],
    ids=["deep", "list", "number", "text", "null"],
)
def test_what_a_child_prints_harms_nobody(
    child: Install, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    child(SAY + f"print({line!r}, flush=True)\npoint(1)\ncompleted(1)")
    assert run(a_training()).status in ("completed", "failed")


@ON_POSTGRES
def test_connections_break(child: Install, fault: Fault) -> None:
    """Every connection to the database cut under a training, three times: it makes new ones, no
    point is lost and the lease is kept."""
    child(SAY + "for n in range(1, 13):\n    point(n)\n    time.sleep(0.5)\ncompleted(12)")
    from django.db import connection, connections

    training, ended = a_training(), threading.Event()

    def train() -> None:
        try:
            supervisor.run(str(training.pk), "worker")
        finally:
            connections.close_all()
            ended.set()

    thread = threading.Thread(target=train)
    thread.start()
    for steps in (2, 4, 6):
        wait_for(lambda steps=steps: _last_point(training) >= steps, f"point {steps}", 30)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
    thread.join(60)
    assert ended.is_set()
    training.refresh_from_db()
    assert (training.status, training.attempt) == ("completed", 1)
    steps = set(TrainingMetric.objects.filter(training=training).values_list("step", flat=True))
    fault.measured["points lost"] = len(set(range(1, 13)) - steps)
    assert steps == set(range(1, 13))


def _last_point(training: Training) -> int:
    steps = TrainingMetric.objects.filter(training=training).values_list("step", flat=True)
    return max(steps, default=0)


@ON_POSTGRES
@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.long)])
def test_database_is_locked(
    child: Install, fault: Fault, locked: Callable[[float], Any], seconds: int
) -> None:
    """Database locked while a run reports: its points wait and none is lost, a lease that runs out
    is taken by nobody, since nobody can write, and the run goes on."""
    points = 10 * seconds + 30  # ten a second, a while longer than it is locked
    child(
        SAY + f"for step in range(1, {points + 1}):\n    point(step)\n    time.sleep(0.1)\n"
        f"completed({points})"
    )
    training = a_training()
    with locked(seconds):
        run(training)
    training.refresh_from_db()
    kept = TrainingMetric.objects.filter(training=training).count()
    fault.measured |= {"locked for": float(seconds), "points lost": points - kept}
    assert (training.status, training.attempt, kept) == ("completed", 1, points)


def test_nobody_holds_the_pulse(fault: Fault, tmp_path: Path) -> None:
    """Supervisor that stops giving its pulse, frozen or cut off: the training process ends itself
    before its lease can be taken."""
    import subprocess
    import sys

    code = (
        "import sys, time\nfrom workers.engine.voice import end_without_pulse\n"
        "end_without_pulse(sys.stdin.fileno(), 1.0)\nprint('begun', flush=True)\ntime.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as started:
        assert started.stdin
        assert started.stdout
        started.stdout.readline()
        for _ in range(8):  # longer than it waits for one
            os.write(started.stdin.fileno(), b".")
            time.sleep(0.25)
            assert started.poll() is None
        with fault.timed("ended after, at a limit of 1 s"):
            assert started.wait(30) == NO_PULSE


def test_worker_was_frozen_for_a_minute(child: Install, fault: Fault) -> None:
    """Supervisor frozen and thawed before its lease was taken: the run that ended itself meanwhile
    is queued again, and not failed."""
    child(SAY + f"point(1)\nos._exit({NO_PULSE})")
    training = run(a_training())
    fault.measured["runs failed"] = int(training.status == "failed")
    assert (training.status, training.interruptions) == ("pending", 1)


def test_a_hung_run_is_stopped(
    child: Install, fault: Fault, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """Stop asked of a run that hangs: it is stopped, and not resumed."""
    hurried(monkeypatch, settings)
    child(SAY + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\npoint(1)\ntime.sleep(600)")

    def once_it_hangs(group: supervisor.Group) -> set[UUID]:
        hangs = group._silence.seconds > 1.5
        return {one.training_id for one in group.open} if hangs else set()

    monkeypatch.setattr(supervisor.Group, "_stop_requested", once_it_hangs)
    with fault.timed("stopped after, at a limit of 3 s"):
        training = run(a_training())
    assert training.status == "stopped"
    assert "child.py" in logs.tail(training.log_path)  # where it hung


def test_commit_without_a_message(fault: Fault, nudged: list[str]) -> None:
    """Crash between the commit of a new run and its message to the workers: the sweeper sends one
    within 30 s."""
    from workers import sweeper

    training = a_training()
    assert not nudged
    sweeper.sweep()
    assert nudged == [str(training.pk)]
    fault.measured["sweeps needed"] = 1
    fault.measured["between two sweeps"] = sweeper.EVERY
