"""The demo as a newcomer gets it: the real model, the real text, a useful SAE at the end."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import Studio, wait_for
from tests.engine.test_rehearsal import engine
from workers.engine.config import RunSpec
from workers.engine.config.sae_job import SaeJobSpec

pytestmark = [pytest.mark.long, pytest.mark.studio]


MOST_RESIDENT = 3 * 10**9


@dataclass(frozen=True)
class Demo:
    """The demo's training once it has ended, and the most memory its process took."""

    training: dict[str, Any]
    peak: int

    @property
    def folder(self) -> Path:
        return Path(self.training["sae_path"])


@pytest.fixture(scope="module")
def demo(studio: Studio) -> Demo:
    pk = studio.python("from trainings import demo; print(demo.start().pk)").strip()
    session, peaks = studio.session(), []

    def over() -> dict[str, Any] | None:
        training = session.get(f"{studio.url}/api/v1/trainings/{pk}").json()
        peaks.append(peak_of_the_engine(studio))
        return training if training["status"] not in ("pending", "running") else None

    training = wait_for(over, "the demo to end", 1500, every=2)
    assert training["status"] == "completed", training["error_message"]
    return Demo(training, max(peaks))


def sae_of(studio: Studio, demo: Demo) -> dict[str, Any]:
    look = (
        "import json; from trainings.models import Sae;"
        f"sae = Sae.objects.get(training='{demo.training['id']}');"
        "print(json.dumps([str(sae.pk), sae.evaluation]))"
    )
    pk, evaluation = json.loads(studio.python(look))
    return {"id": pk, "evaluation": evaluation}


def test_the_demo_ends_with_a_useful_sae(studio: Studio, demo: Demo, tmp_path: Path) -> None:
    evaluation = sae_of(studio, demo)["evaluation"]
    assert evaluation["fvu"] < 0.08
    assert evaluation["l0"] <= 70
    assert "held-out tokens" in studio.session().get(studio.url).text
    assert 0 < demo.peak < MOST_RESIDENT
    check_memory(demo.folder.parent, tmp_path)


@pytest.mark.interop
def test_saelens_finds_the_same_numbers_on_the_demos_sae(demo: Demo) -> None:
    """To 1e-3, with its own evaluation of the same SAE on the same tokens."""
    pytest.importorskip("sae_lens")
    from tests.interop.test_saelens_evals import compare

    spec = RunSpec.read(demo.folder.parent)
    tokens = {"held_out_tokens": 2040, "splice_tokens": 2048}  # eight contexts, all of them
    paths = {"model_path": spec.model_path, "tokens_path": spec.tokens_path, "device": "cpu"}
    job = SaeJobSpec(kind="evaluate", sae_path=demo.folder, **paths, **tokens)
    found = compare(job, f"model.layers.{spec.config.layer}", 1e-3)
    assert found["tokens"] == found["splice_tokens"] + 8
    assert found["ce_recovered"] > 0.98


def test_features_of_the_demos_sae_are_collected_and_say_something(
    studio: Studio, demo: Demo
) -> None:
    sae, session = sae_of(studio, demo)["id"], studio.session()
    address = f"{studio.url}/api/v1/saes/{sae}"
    job = session.post(f"{address}/collect-features", json={}).json()["id"]

    def over() -> dict[str, Any] | None:
        found = session.get(f"{address}/jobs/{job}").json()
        return found if found["status"] not in ("pending", "running") else None

    ended = wait_for(over, "the features", 1500, every=2)
    assert ended["status"] == "done", ended["error_message"]
    assert ended["result"]["latents_alive"] > 4000
    hits = session.get(f"{address}/features", params={"token": "import", "limit": 5}).json()
    assert hits["count"] > 0
    latent = session.get(f"{address}/features/{hits['items'][0]['id']}").json()
    peaks = [each["tokens"][each["peak"]].strip() for each in latent["examples"]]
    assert "import" in peaks


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
