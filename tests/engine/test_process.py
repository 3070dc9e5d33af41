"""The engine as a process: its output, its signals, its death."""

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

import pytest
import torch

from workers.engine.config import RunSpec
from workers.engine.export import reconstruct
from workers.engine.run import sentence

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
MakeSpec = Callable[..., RunSpec]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[RunSpec], subprocess.Popen[str]]]:
    children: list[subprocess.Popen[str]] = []

    def begin(spec: RunSpec) -> subprocess.Popen[str]:
        spec.write(tmp_path)
        child = subprocess.Popen(
            [sys.executable, "-m", "workers.engine", str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        children.append(child)
        return child

    yield begin
    for child in children:
        child.kill()
        child.communicate()


def test_every_line_of_output_is_an_event(
    make_spec: MakeSpec, start: Callable[[RunSpec], subprocess.Popen[str]]
) -> None:
    child = start(make_spec("standard", num_steps=20))
    out, _ = child.communicate()
    found = [json.loads(line) for line in out.splitlines()]
    assert child.returncode == 0
    assert found[0]["event"] == "phase"
    assert found[-1]["event"] == "completed"
    assert all("step" in event for event in found)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_run_and_leaves_a_loadable_sae(
    make_spec: MakeSpec,
    start: Callable[[RunSpec], subprocess.Popen[str]],
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    child = start(make_spec("jumprelu", num_steps=1_000_000))
    found: list[dict[str, Any]] = []
    assert child.stdout is not None
    for line in child.stdout:
        found.append(json.loads(line))
        if found[-1]["event"] == "progress" and found[-1]["step"] == 20:
            child.send_signal(number)
    assert child.wait() == 0
    assert found[-1]["event"] == "stopped"
    assert 20 <= found[-1]["step"] < 1_000_000
    checkpoints = [event for event in found if event["event"] == "checkpoint"]
    assert checkpoints[-1]["step"] == found[-1]["step"]
    x = torch.randn(2, 32)
    assert reconstruct(tmp_path / "sae", x, x)[1].isfinite().all()


def test_a_failure_is_one_sentence_and_exit_status_one(
    make_spec: MakeSpec, start: Callable[[RunSpec], subprocess.Popen[str]], tmp_path: Path
) -> None:
    spec = make_spec("standard").model_copy(update={"model_path": tmp_path / "nowhere"})
    child = start(spec)
    out, err = child.communicate()
    last = json.loads(out.splitlines()[-1])
    assert child.returncode == 1
    assert last["event"] == "failed"
    assert last["error"].startswith("There is no Hugging Face model in")
    assert "Traceback" in err


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a Linux kernel's promise")
def test_the_child_dies_with_its_parent(make_spec: MakeSpec, tmp_path: Path) -> None:
    make_spec("standard", num_steps=1_000_000).write(tmp_path)
    code = (
        "import subprocess, sys\n"
        f"command = [sys.executable, '-m', 'workers.engine', {str(tmp_path)!r}]\n"
        "child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    os.kill(child, 0)  # it lives
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 20
    while alive(child):
        assert time.monotonic() < deadline, "the child outlived its parent"
        threading.Event().wait(0.05)


def alive(pid: int) -> bool:
    """A zombie that nobody has reaped yet is dead."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "ran out of memory"),
        (OSError(28, "No space left on device"), "The disk is full"),
        (PermissionError(13, "Permission denied", "/x"), "could not be read or written"),
        (ZeroDivisionError("oops"), "An unexpected error"),
    ],
)
def test_errors_of_the_machine_become_sentences(error: Exception, expected: str) -> None:
    assert expected in sentence(error)
