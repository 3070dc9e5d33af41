"""The demo as a newcomer gets it: the real model, the real text, a useful SAE at the end."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest

from tests.conftest import Studio, wait_for
from tests.engine.test_rehearsal import engine
from workers.engine.config import RunSpec

pytestmark = [pytest.mark.long, pytest.mark.studio]


MOST_RESIDENT = 3 * 10**9


def test_the_demo_ends_with_a_useful_sae(studio: Studio, tmp_path: Path) -> None:
    code = "from trainings import demo; print(demo.start().pk)"
    pk = studio.python(code).strip()
    session = studio.session()

    peaks: list[int] = []

    def over() -> dict[str, object] | None:
        training = session.get(f"{studio.url}/api/v1/trainings/{pk}").json()
        peaks.append(peak_of_the_engine(studio))
        return training if training["status"] not in ("pending", "running") else None

    training = wait_for(over, "the demo to end", 1500, every=2)
    assert training["status"] == "completed", training["error_message"]
    look = (
        "import json; from trainings.models import Sae;"
        f"print(json.dumps(Sae.objects.get(training='{pk}').evaluation))"
    )
    evaluation = json.loads(studio.python(look))
    assert evaluation["fvu"] < 0.08
    assert evaluation["l0"] <= 70
    assert "held-out tokens" in session.get(studio.url).text
    assert 0 < max(peaks) < MOST_RESIDENT
    check_memory(Path(training["sae_path"]).parent, tmp_path)


def check_memory(attempt: Path, tmp_path: Path) -> None:
    """What is told before the start is what the demo's process then takes: under 3 GB."""
    spec = RunSpec.read(attempt)
    # The same shapes over fewer steps; the rest of the run takes no more.
    h = spec.config.hyperparameters.model_copy(update={"num_steps": 40, "checkpoint_interval": 20})
    config = spec.config.model_copy(update={"hyperparameters": h})
    short = spec.model_copy(update={"config": config})
    told, _ = engine(short, tmp_path / "rehearsal", "--rehearse")
    found, peak = engine(short, tmp_path / "run")
    assert found[-1]["event"] == "completed", found[-1]
    (started,) = [event for event in found if event["event"] == "started"]
    assert peak < MOST_RESIDENT
    assert told[-1]["memory_bytes"] == pytest.approx(peak, rel=0.15)
    assert started["memory_bytes"] == pytest.approx(peak, rel=0.15)


def peak_of_the_engine(studio: Studio) -> int:
    """The most bytes that the training's process has held so far; 0 while there is none."""
    for child in psutil.Process(studio.processes["trainer"].pid).children(recursive=True):
        try:
            if "workers.engine" in child.cmdline():
                status = Path(f"/proc/{child.pid}/status").read_text(encoding="ascii")
                return int(status.partition("VmHWM:")[2].split()[0]) * 1024
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError, IndexError):
            continue  # it has just ended
    return 0
