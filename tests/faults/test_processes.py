"""Processes that die, freeze and come back, under real runs on a real studio."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.faults.conftest import Fault, Ground
from tests.studio import PROGRAMS, Api, child_of, wait_for

pytestmark = [pytest.mark.fault, pytest.mark.studio]

INTERVAL = 1000  # the smallest
LONG = {"num_steps": 100_000, "checkpoint_interval": INTERVAL, "log_interval": 10}


def training(api: Api, name: str, beyond: int = INTERVAL) -> tuple[str, psutil.Process]:
    """A run that has a checkpoint behind it, and its process."""
    pk = api.start(name, **LONG)
    child = wait_for(lambda: child_of(pk), "the training process", 60)
    wait_for(lambda: api.get(pk)["current_step"] > beyond, "a checkpoint", 120)
    return pk, child


def resumed_from(api: Api, pk: str, attempt: int) -> int:
    """The step that an attempt went on from."""

    def known() -> dict[str, int] | None:
        found = api.get(pk)
        return found if found["attempt"] == attempt and found["phase"] == "training" else None

    wait_for(known, f"attempt {attempt} to train", 180)
    return int(api.get(pk)["run_facts"]["resumed_from"])


def stop(api: Api, pk: str) -> None:
    assert api.post(pk, "stop") in (200, 202, 204)
    assert api.ended(pk)["status"] == "stopped"


def expect_handed_over(ground: Ground, fault: Fault, pk: str) -> None:
    """The run waits, and the next worker goes on from the step at which the one before ended."""
    before = ground.api.get(pk)
    assert (before["status"], before["attempt"]) == ("pending", 1)
    with fault.timed("training again after"):
        ground.again("trainer")
        step = resumed_from(ground.api, pk, 2)
    fault.measured["steps repeated"] = max(0, before["current_step"] - step)
    assert step >= before["current_step"]
    stop(ground.api, pk)


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, pytest.param(signal.SIGSEGV, marks=pytest.mark.long)],
    ids=["SIGKILL", "SIGSEGV"],
)
def test_training_process_dies(ground: Ground, fault: Fault, number: signal.Signals) -> None:
    """Training process dies: the run fails at once with a readable cause, the
    worker lives, and a resume repeats at most one checkpoint interval."""
    pk, child = training(ground.api, number.name)
    with fault.timed("failed after"):
        child.send_signal(number)
        found = ground.api.ended(pk)
    assert found["status"] == "failed"
    assert number.name in found["error_message"]
    assert ground.studio.processes["trainer"].poll() is None
    assert ground.api.post(pk, "resume") in (200, 202)
    step = resumed_from(ground.api, pk, 2)
    fault.measured["steps repeated"] = found["current_step"] - step
    assert 0 <= found["current_step"] - step <= INTERVAL + LONG["log_interval"]
    stop(ground.api, pk)


@pytest.mark.long
def test_worker_is_told_to_end(ground: Ground, fault: Fault) -> None:
    """SIGTERM to a worker under load: the run is saved and handed back, and the next worker goes on
    from that step."""
    pk, child = training(ground.api, "handed back")
    with fault.timed("worker gone after"):
        ground.studio.processes["trainer"].send_signal(signal.SIGTERM)
        ground.studio.processes["trainer"].wait(120)
    assert gone(child)
    expect_handed_over(ground, fault, pk)


@pytest.mark.long
def test_worker_is_killed(ground: Ground, fault: Fault) -> None:
    """SIGKILL of a worker: its training process dies with it, and within 90 s the run goes on from
    its newest checkpoint."""
    pk, child = training(ground.api, "worker killed")
    worker = child.parent()
    assert worker is not None
    worker.send_signal(signal.SIGKILL)
    with fault.timed("training process gone after"):
        wait_for(lambda: gone(child), "the training process to be gone", 10)
    last = ground.api.get(pk)["current_step"]
    with fault.timed("claimed again after"):
        ground.again("trainer")
        wait_for(lambda: ground.api.get(pk)["attempt"] == 2, "another attempt", 90)
    step = resumed_from(ground.api, pk, 2)
    fault.measured["steps repeated"] = last - step
    assert 0 <= last - step <= INTERVAL + LONG["log_interval"]
    stop(ground.api, pk)


@pytest.mark.long
def test_worker_loses_its_parent(ground: Ground, fault: Fault) -> None:
    """SIGKILL of the process that keeps a worker: no ghost trains on beside its successor; the run
    is saved and handed over."""
    pk, child = training(ground.api, "parent killed")
    worker = child.parent()
    assert worker is not None
    assert worker.ppid() == ground.studio.processes["trainer"].pid
    ground.studio.processes["trainer"].send_signal(signal.SIGKILL)
    with fault.timed("worker and training process gone after"):
        wait_for(lambda: gone(child) and gone(worker), "both to be gone", 30)
    expect_handed_over(ground, fault, pk)


@pytest.mark.long
def test_worker_freezes(ground: Ground, fault: Fault) -> None:
    """A worker frozen for 120 s and thawed: its training process ends before a successor starts,
    the successor goes on, and the thawed worker writes nothing over it."""
    pk, child = training(ground.api, "frozen")
    frozen = psutil.Process(ground.studio.processes["trainer"].pid)
    stopped = [frozen, *(p for p in frozen.children(recursive=True) if p.pid != child.pid)]
    for process in stopped:
        process.suspend()
    begun = time.monotonic()
    with fault.timed("training process gone after"):
        wait_for(lambda: gone(child), "the frozen worker's process to end itself", 60)
    assert ground.api.get(pk)["attempt"] == 1
    ground.studio.start("trainer 2")
    wait_for(lambda: ground.api.get(pk)["attempt"] == 2, "a successor", 90)
    fault.measured["successor after"] = time.monotonic() - begun
    resumed_from(ground.api, pk, 2)
    wait_for(lambda: time.monotonic() - begun >= 120, "120 s of frost", 120)
    for process in stopped:
        process.resume()
    successor = child_of(pk)
    assert successor is not None
    wait_for(
        lambda: "was taken over" in ground.studio.log("trainer"), "the thawed worker's notice", 60
    )
    step = ground.api.get(pk)["current_step"]
    wait_for(lambda: ground.api.get(pk)["current_step"] > step, "the successor's steps", 60)
    found = ground.api.get(pk)
    assert (found["attempt"], found["status"]) == (2, "running")
    assert not gone(successor)
    fault.measured["attempts"] = found["attempt"]
    stop(ground.api, pk)


@pytest.mark.long
def test_the_same_message_twenty_times(ground: Ground, fault: Fault) -> None:
    """The same message twenty times to two workers: one attempt."""
    ground.studio.start("trainer 2")
    pk = ground.api.start("twenty messages", num_steps=1000)
    ground.studio.python(
        "from workers import broker\n"
        f"for _ in range(20): broker.enqueue(broker.TRAININGS, 'run_training', '{pk}')"
    )
    found = ground.api.ended(pk)
    assert found["status"] == "completed"
    # Another run behind all the copies: none of them is left by the time it has ended.
    assert ground.api.ended(ground.api.start("behind", num_steps=1000))["status"] == "completed"
    found = ground.api.get(pk)
    fault.measured["attempts"] = found["attempt"]
    assert found["attempt"] == 1


@pytest.mark.long
def test_web_server_is_killed(ground: Ground, fault: Fault) -> None:
    """SIGKILL of the web server: runs go on and lose no point, and the page is back."""
    pk, child = training(ground.api, "no web")
    before = ground.api.get(pk)
    ground.studio.processes["web"].send_signal(signal.SIGKILL)
    with fault.timed("page back after"):
        ground.again("web")
        wait_for(lambda: ground.api.reachable(), "the web server", 60)
    assert not gone(child)
    step = before["current_step"] + 200
    wait_for(lambda: ground.api.get(pk)["current_step"] > step, "steps", 60)
    fault.measured["points lost"] = ground.api.points_lost(pk)
    assert fault.measured["points lost"] == 0
    stop(ground.api, pk)


@pytest.mark.long
def test_another_clock(ground: Ground, fault: Fault, clock_ahead: dict[str, str]) -> None:
    """A worker whose clock is an hour ahead: leases go by the database's clock, so nothing is taken
    from it and it takes nothing from others."""
    ground.studio.processes["trainer"].send_signal(signal.SIGTERM)
    ground.studio.processes["trainer"].wait(60)
    code = "from django.utils import timezone; print(timezone.now().timestamp())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | clock_ahead, capture_output=True, check=True
    )
    assert 3500 < float(done.stdout) - time.time() < 3700
    ground.studio.start("trainer", clock_ahead)
    ground.studio.start("sweeper 2", clock_ahead)
    pk = ground.api.start("another clock", num_steps=1000)
    found = ground.api.ended(pk)
    fault.measured["attempts"] = found["attempt"]
    assert (found["status"], found["attempt"]) == ("completed", 1)
    ground.studio.processes["trainer"].send_signal(signal.SIGTERM)
    ground.studio.processes["trainer"].wait(60)
    assert set(PROGRAMS) <= set(ground.studio.processes)
