"""`manage.py train` trains in its own process: no web, no Redis, no worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import ROOT, wait_for

RECIPE = {
    "num_steps": 1000,
    "batch_size": 512,
    "latent_dim": 64,
    "learning_rate": 0.001,
    "buffer_tokens": 16384,
    "held_out_tokens": 1024,
    "log_interval": 100,
}


class Headless:
    """A data folder with a tiny model, and nothing running."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {
            **os.environ,
            "SAESTUDIO_HOME": str(home),
            "REDIS_URL": f"unix://{home}/no-redis.sock",
            "OMP_NUM_THREADS": "1",
        }
        self.environment.pop("DATABASE_URL", None)
        self.run("migrate", "--verbosity", "0")
        self.run("shell", "--no-imports", "-c", "from tests.tiny import seed; seed()")

    def run(self, *words: str) -> None:
        command = [sys.executable, "manage.py", *words]
        subprocess.run(command, cwd=ROOT, env=self.environment, check=True, capture_output=True)

    def train(self, *words: str, **changes: Any) -> subprocess.Popen[str]:
        place = ("--model", "tiny-llama", "--dataset", "topics", "--layer", "1")
        pairs = [f"{name}={value}" for name, value in {**RECIPE, **changes}.items()]
        settings = [word for pair in pairs for word in ("--set", pair)]
        return subprocess.Popen(
            [sys.executable, "manage.py", "train", *place, *settings, *words],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=(self.home / "stderr").open("w"),
            text=True,
        )

    def said(self) -> str:
        return (self.home / "stderr").read_text()


@pytest.fixture(scope="module")
def headless(tmp_path_factory: pytest.TempPathFactory) -> Headless:
    return Headless(tmp_path_factory.mktemp("headless"))


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The one JSON object on stdout."""
    out, _ = process.communicate(timeout=300)
    found: dict[str, Any] = json.loads(out)
    return found


def test_run_completes_and_prints_one_json_object(headless: Headless) -> None:
    process = headless.train("--json", "--name", "headless")
    found = result(process)
    assert process.returncode == 0, headless.said()
    assert (found["name"], found["status"]) == ("headless", "completed")
    metrics = found["final_metrics"]
    assert metrics["step"] == 1000
    assert 0 < metrics["evaluation"]["fvu"] < 0.5
    assert {"loss", "l0", "fvu", "dead_neurons"} < set(metrics)
    assert (Path(found["sae_path"]) / "sae_weights.safetensors").is_file()
    assert "step 1,000" in headless.said()


def test_interrupt_saves_and_ends_with_its_own_code(headless: Headless) -> None:
    process = headless.train("--json", num_steps=1_000_000, log_interval=10)
    wait_for(lambda: "loss" in headless.said(), "the first metrics", 120)
    process.send_signal(signal.SIGINT)
    found = result(process)
    assert (process.returncode, found["status"]) == (3, "stopped")
    assert found["final_metrics"]["step"] > 0
    assert (Path(found["sae_path"]) / "cfg.json").is_file()
    assert "the run is saved first" in headless.said()


def engines(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Children that have become the engine: one frozen before that would freeze its parent too."""
    children = psutil.Process(process.pid).children()
    return [child for child in children if "workers.engine" in child.cmdline()]


def test_second_interrupt_ends_a_run_that_does_not_answer(headless: Headless) -> None:
    process = headless.train(num_steps=1_000_000)
    (engine,) = wait_for(lambda: engines(process), "the engine", 60)
    engine.suspend()
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert any("saved first" in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    engine.wait(timeout=60)
    assert "second Ctrl-C" in headless.said()


def test_failed_run_says_why_and_exits_with_one(headless: Headless) -> None:
    (tokens,) = (headless.home / "tokenizations").glob("*/tokens.bin")
    whole = tokens.read_bytes()
    tokens.write_bytes(whole[:100])
    process = headless.train()
    out, _ = process.communicate(timeout=300)
    tokens.write_bytes(whole)
    assert process.returncode == 1
    assert "Failed at step 0: " in out
    assert "tokenize the text again" in out


def test_dry_run_tells_time_memory_and_disk_and_keeps_nothing(headless: Headless) -> None:
    (headless.home / "stderr").touch()
    before = sorted(headless.home.rglob("*"))
    process = headless.train("--dry-run", "--json")
    found = result(process)
    assert process.returncode == 0, headless.said()
    for name in ("seconds", "tokens_per_second", "step_seconds", "memory_bytes", "disk_bytes"):
        assert found[name] > 0
    out, _ = headless.train("--dry-run").communicate(timeout=300)
    assert [line.split()[0] for line in out.splitlines()] == [
        "Time",
        "Memory",
        "Disk",
        "Cache",
        "Device",
    ]
    assert sorted(headless.home.rglob("*")) == before


def test_dry_run_names_the_field_that_is_wrong(headless: Headless) -> None:
    process = headless.train("--dry-run", latent_dim=7)
    process.communicate(timeout=300)
    assert process.returncode == 2
    assert "latent_dim" in headless.said()
