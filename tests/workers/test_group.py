"""A sweep under its supervisor: one process, and of each member its own row, log and end."""

from __future__ import annotations

import os
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_for
from tests.rows import a_tokenization
from tests.workers.test_supervisor import in_thread
from trainings import live, logs, nudge, sweeps
from trainings.models import Training
from trainings.sweeps import Asked
from workers import fleet, process, supervisor

pytestmark = pytest.mark.django_db(transaction=True)

# What the engine does with `--sweep`, without training: `members` are ids in their order.
ENGINE = """
import json, os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[-1])
if "--sweep" in sys.argv:
    dirs = json.loads((folder / "members.json").read_text())
else:
    dirs = [folder]
members = [json.loads(pathlib.Path(d, "run.json").read_text())["training_id"] for d in dirs]
def say(whose, **event):
    print(json.dumps({**event, "training_id": members[whose]}), flush=True)
def stopped(whose, step=7, event="stopped"):
    say(whose, event=event, step=step, sae_path=None, final_loss=0.5, evaluation=None,
        export={"format": "none"})
def point(whose, step):
    say(whose, event="progress", step=step, loss=1.0 + whose, l0=2.0, l1=1.0,
        reconstruction_loss=0.5, fvu=0.1)
def told():
    line = sys.stdin.readline().lstrip(".").split()
    return members.index(line[1])
def here(name):
    (folder.parent / name).write_text(str(os.getpid()))
for n, _ in enumerate(members):
    say(n, event="started", step=0, resumed_from=None)
"""
Install = Callable[[str], None]


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> Install:
    """Puts a script in the engine's place."""
    monkeypatch.setattr(live, "publish", lambda *_: None)

    def install(body: str) -> None:
        script = tmp_path / "engine.py"
        script.write_text(ENGINE + textwrap.dedent(body), encoding="utf-8")
        monkeypatch.setattr(process, "ENGINE", (str(script),))

    return install


@pytest.fixture
def nudged(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    sent: list[Any] = []
    monkeypatch.setattr(nudge, "run", sent.append)
    return sent


@pytest.fixture
def runs(nudged: list[Any]) -> list[Training]:
    asked = Asked({"architecture": "standard", "layer": 1}, {"seed": [1, 2, 3]})
    source = a_tokenization()
    made = sweeps.members(asked, source)
    sweep, _ = sweeps.start(name="seeds", source=source, asked=asked, made=made)
    found = list(sweep.trainings.order_by("hyperparameters__seed"))
    assert nudged == [found[0].pk]
    nudged.clear()
    # The queue's order, also where they came within one tick of its clock.
    for run in found:
        Training.objects.filter(pk=run.pk).update(priority=-run.hyperparameters["seed"])
    return found


def told(runs: list[Training], name: str) -> str:
    """What the script left under this name beside the first run's attempts."""
    file = runs[0].folder / name
    return wait_for(lambda: file.is_file() and file.read_text(), f"the script to say {name}")


def states(runs: list[Training]) -> list[str]:
    rows = Training.objects.in_bulk([run.pk for run in runs])
    return [rows[run.pk].status for run in runs]


def test_one_process_trains_all_and_each_has_its_own_points_and_log(
    engine: Install, runs: list[Training]
) -> None:
    engine(
        "for n, _ in enumerate(members):\n    point(n, 5)\n    stopped(n, 5, 'completed')\n"
        "print(len(members), 'members', file=sys.stderr)"
    )
    assert supervisor.run_next("worker") == [run.pk for run in runs]
    assert supervisor.run_next("worker") == []
    assert states(runs) == ["completed"] * 3
    for n, run in enumerate(runs):
        run.refresh_from_db()
        assert (run.attempt, run.worker) == (1, "worker")
        assert list(run.metrics.values_list("step", "loss")) == [(5, 1.0 + n)]
        log = logs.tail(run.log_path)
        assert "shares its activations with 2 of its sweep" in log
        assert "3 members" in log


def test_a_member_that_is_asked_to_stop_leaves_and_is_free_while_the_others_go_on(
    engine: Install, runs: list[Training]
) -> None:
    engine(
        "here('began')\nstopped(told())\nhere('left')\n"
        "while not (folder.parent / 'go').exists():\n    time.sleep(0.05)\n"
        "stopped(0, 9, 'completed')\nstopped(2, 9, 'completed')"
    )
    thread = in_thread(lambda: supervisor.run_next("worker"))
    told(runs, "began")
    assert Training.objects.request_stop(runs[1].pk)
    told(runs, "left")
    wait_for(lambda: states(runs) == ["running", "stopped", "running"], "it to have stopped")
    (runs[0].folder / "go").touch()
    thread.join(60)
    assert states(runs) == ["completed", "stopped", "completed"]


def test_what_ends_the_process_is_the_failure_of_those_that_had_not_ended(
    engine: Install, runs: list[Training]
) -> None:
    engine("stopped(1, 9, 'completed')\ntime.sleep(0.5)\nos.kill(os.getpid(), signal.SIGKILL)")
    supervisor.run_next("worker")
    assert states(runs) == ["failed", "completed", "failed"]
    runs[2].refresh_from_db()
    assert "killed (SIGKILL)" in (runs[2].error_message or "")


def test_members_that_are_put_aside_wait_at_once_for_others(
    engine: Install, runs: list[Training], nudged: list[Any]
) -> None:
    engine(
        "say(2, event='paused', step=0)\nhere('aside')\n"
        "while not (folder.parent / 'go').exists():\n    time.sleep(0.05)\n"
        "stopped(0, 9, 'completed')\nstopped(1, 9, 'completed')"
    )
    thread = in_thread(lambda: supervisor.run_next("worker"))
    told(runs, "aside")
    wait_for(lambda: states(runs) == ["running", "running", "pending"], "it to wait")
    wait_for(lambda: nudged == [runs[2].pk], "a worker to be told")
    (runs[0].folder / "go").touch()
    thread.join(60)
    assert states(runs) == ["completed", "completed", "pending"]


def test_a_worker_that_leaves_hands_all_of_them_over(
    engine: Install, runs: list[Training], nudged: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine(
        "def pause(*_):\n    for n, _ in enumerate(members):\n"
        "        say(n, event='paused', step=3)\n    sys.exit(0)\n"
        "signal.signal(signal.SIGUSR1, pause)\nhere('began')\nsignal.pause()"
    )
    ending = threading.Event()
    monkeypatch.setattr(fleet, "shutting_down", ending)
    thread = in_thread(lambda: supervisor.run_next("worker"))
    told(runs, "began")
    ending.set()
    thread.join(60)
    assert states(runs) == ["pending"] * 3
    assert set(nudged) == {run.pk for run in runs}


def test_a_member_that_was_taken_over_is_let_go_and_the_others_go_on(
    engine: Install, runs: list[Training]
) -> None:
    engine(
        "here('began')\nn = told()\nstopped(n)\n"
        "stopped(1, 9, 'completed')\nstopped(2, 9, 'completed')"
    )
    thread = in_thread(lambda: supervisor.run_next("worker"))
    told(runs, "began")
    wait_for(lambda: states(runs) == ["running"] * 3, "all to run")
    Training.objects.filter(pk=runs[0].pk).update(attempt=2)
    thread.join(60)
    assert not thread.is_alive()
    runs[0].refresh_from_db()
    assert (runs[0].status, runs[0].attempt) == ("running", 2)
    assert states(runs)[1:] == ["completed"] * 2


def test_a_process_of_which_all_were_taken_over_is_ended(
    engine: Install, runs: list[Training]
) -> None:
    engine("here('pid')\ntime.sleep(600)")
    thread = in_thread(lambda: supervisor.run_next("worker"))
    pid = int(told(runs, "pid"))
    Training.objects.filter(sweep=runs[0].sweep).update(attempt=2)
    thread.join(60)
    assert not thread.is_alive()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_one_that_cannot_begin_fails_and_the_others_train(
    engine: Install, runs: list[Training]
) -> None:
    engine("for n, _ in enumerate(members):\n    stopped(n, 5, 'completed')")
    runs[0].folder.parent.mkdir(parents=True, exist_ok=True)
    runs[0].folder.write_text("no folder")
    supervisor.run_next("worker")
    assert states(runs) == ["failed", "completed", "completed"]
