"""A run on two ranks as a supervisor sees it: one process, which starts the others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from tests.engine.test_process import ENVIRONMENT, alive
from workers.engine.config import RunSpec
from workers.engine.ranks.launch import sentence
from workers.engine.run import LOST

# Each starts processes that start processes.
pytestmark = pytest.mark.long
MakeSpec = Callable[..., RunSpec]
Events = list[dict[str, Any]]
LONG: dict[str, Any] = {"num_steps": 1_000_000, "checkpoint_interval": 20}


class Run:
    """A run that was started; `events` are those it has told so far."""

    def __init__(self, spec: RunSpec, folder: Path) -> None:
        spec.model_copy(update={"ranks": 2}).write(folder)
        self.events: Events = []
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workers.engine", str(folder)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=ENVIRONMENT,
            )

    def until(self, name: str) -> dict[str, Any]:
        """The next event of this name."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))
            if self.events[-1]["event"] == name:
                return self.events[-1]
        raise AssertionError(f"the run ended without {name}: {self.events[-3:]}")

    def end(self) -> dict[str, Any]:
        """The last event, once the process is gone."""
        out, _ = self.process.communicate()
        self.events += [json.loads(line) for line in out.splitlines()]
        return self.events[-1]

    def ranks(self) -> dict[str, psutil.Process]:
        """Both processes, as soon as there are any, by the number of their rank."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            found = psutil.Process(self.process.pid).children()
            if len(found) == 2 and all("RANK" in child.environ() for child in found):
                return {child.environ()["RANK"]: child for child in found}
            threading.Event().wait(0.01)
        raise AssertionError("the ranks were not started")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[RunSpec], Run]]:
    runs: list[Run] = []

    def begin(spec: RunSpec) -> Run:
        runs.append(Run(spec, tmp_path))
        return runs[-1]

    yield begin
    for run in runs:
        run.process.kill()
        run.process.wait()
        assert run.process.stdout is not None
        run.process.stdout.close()


def test_a_lost_rank_starts_the_run_again_from_its_newest_checkpoint(
    make_spec: MakeSpec, start: Callable[[RunSpec], Run], tmp_path: Path
) -> None:
    run = start(make_spec("standard", **LONG))
    saved = run.until("checkpoint")["step"]

    run.ranks()["1"].kill()

    again = run.until("started")
    assert again["resumed_from"] >= saved
    run.until("progress")
    run.process.send_signal(signal.SIGUSR1)
    last = run.end()
    assert (last["event"], run.process.returncode) == ("paused", 0)
    assert (tmp_path / "checkpoints" / f"step-{last['step']:06d}").is_dir()
    assert "failed" not in [event["event"] for event in run.events]


def test_who_is_told_to_stop_before_it_can_hear_stops(
    make_spec: MakeSpec, start: Callable[[RunSpec], Run]
) -> None:
    run = start(make_spec("standard", **LONG))
    run.ranks()

    run.process.send_signal(signal.SIGTERM)

    assert run.end()["event"] == "stopped"
    assert run.process.returncode == 0
    assert [e["phase"] for e in run.events if e["event"] == "phase"].count("loading_model") == 1


def test_a_failure_is_told_once_and_nothing_is_started_again(
    make_spec: MakeSpec, start: Callable[[RunSpec], Run], tmp_path: Path
) -> None:
    spec = make_spec("standard").model_copy(update={"model_path": tmp_path / "nowhere"})

    run = start(spec)

    assert run.end()["error"].startswith("There is no Hugging Face model in")
    assert run.process.returncode == 1
    assert [event["event"] for event in run.events] == ["phase", "failed"]


def test_who_was_killed_is_named_and_not_who_noticed() -> None:
    failures = {0: ProcessFailure(0, 1, LOST, ""), 1: ProcessFailure(1, 2, -signal.SIGKILL, "")}

    told = sentence(ChildFailedError("engine", failures), 2)

    assert "2 processes were started 4 times" in told
    assert "at last number 2 (SIGKILL)" in told


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a Linux kernel's promise")
def test_ranks_die_with_the_process_that_started_them(
    make_spec: MakeSpec, start: Callable[[RunSpec], Run]
) -> None:
    run = start(make_spec("standard", **LONG))
    run.until("progress")
    ranks = run.ranks().values()

    os.kill(run.process.pid, signal.SIGKILL)

    deadline = time.monotonic() + 20
    while any(alive(rank.pid) for rank in ranks):
        assert time.monotonic() < deadline, "a rank outlived its parent"
        threading.Event().wait(0.05)
