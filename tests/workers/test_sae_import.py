"""An SAE from the hub or a folder is fetched, read by the real engine, and becomes a row."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.engine.test_evaluation import random_sae, write
from tests.people import somebody
from tests.rows import a_tokenization
from tests.tiny import seed
from tests.workers.test_rehearsal import Install, child
from tests.workers.test_sae_jobs import endless
from trainings import imports
from trainings.models import Sae, SaeJob, Tokenization
from workers import sae_jobs

from .fake_hub import FakeHub

__all__ = ["child"]
pytestmark = pytest.mark.django_db(transaction=True)


def ask(source: str, location: str, **told: Any) -> Sae:
    asked = {"source": source, "location": location, "tokenization": Tokenization.objects.get()}
    return imports.ask(asked | told, somebody())


def run(sae: Sae) -> SaeJob:
    job = sae.jobs.get()
    assert sae_jobs.run(str(job.pk), "worker")
    job.refresh_from_db()
    sae.refresh_from_db()
    return job


@pytest.fixture
def served(hub: FakeHub, roots: Path) -> Path:
    """`owner/saes` on the hub, with a model of its width here; its folder."""
    seed()
    folder = hub.repository("models", "owner/saes")
    folder.mkdir(parents=True)
    return folder


def test_an_sae_on_the_hub_is_fetched_read_and_evaluated(served: Path, home: Path) -> None:
    write(served / "blocks.1", random_sae())
    (served / "blocks.1" / "evil.pt").write_bytes(b"pickle")
    sae = ask("hub", "owner/saes", subfolder="blocks.1")
    job = run(sae)
    assert (job.status, job.error_message) == ("done", "")
    assert sae.ready
    assert (sae.architecture, sae.layer, sae.width) == ("TopK 8", 1, 96)
    assert sorted(p.name for p in sae.folder.iterdir()) == ["cfg.json", "sae_weights.safetensors"]
    assert sae.export["max_difference"] < 1e-5
    evaluation = SaeJob.objects.ask(sae, SaeJob.Kind.EVALUATE, sae.text)
    assert sae_jobs.run(str(evaluation.pk), "worker")
    sae.refresh_from_db()
    assert sae.evaluation["ce_recovered"] is not None
    assert imports.remove(sae) is None
    assert not (home / "saes").exists() or not any((home / "saes").iterdir())


def test_a_folder_without_an_sae_names_those_that_there_are(served: Path) -> None:
    write(served / "blocks.1", random_sae())
    job = run(ask("hub", "owner/saes", subfolder="blocks.7"))
    assert job.status == "failed"
    assert "no SAE in the folder blocks.7; there are: blocks.1." in job.error_message
    shutil.rmtree(served / "blocks.1")
    sae = Sae.objects.get()
    again = imports.again(sae, job.options)
    sae_jobs.run(str(again.pk), "worker")
    again.refresh_from_db()
    assert "holds no SAE of SAELens or sparsify" in again.error_message


def test_a_local_folder_is_looked_at_again_by_the_worker(
    roots: Path, settings: Any, tmp_path: Path
) -> None:
    a_tokenization()
    folder = write(roots / "sae", random_sae())
    sae = ask("folder", str(folder))
    settings.ALLOWED_ROOTS = [tmp_path / "elsewhere"]
    job = run(sae)
    assert job.status == "failed"
    assert "outside the folders that may be read" in job.error_message
    assert not sae.ready


def test_deleting_it_while_it_is_taken_in_leaves_nothing(
    roots: Path, child: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sae_jobs, "RENEW_EVERY", 0.05)
    a_tokenization()
    sae = ask("folder", str(write(roots / "sae", random_sae())))
    thread, _ = endless(tmp_path, child, sae.jobs.get())
    sae.home.mkdir(parents=True)
    home = sae.home
    Sae.objects.all().delete()
    thread.join(30)
    assert not thread.is_alive()
    assert not home.exists()
