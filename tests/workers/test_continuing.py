"""Somebody else's SAE is imported and trained on by real workers' code, and outlived."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.saes import an_sae
from tests.engine.test_evaluation import write
from tests.tiny import seed
from tests.workers.test_sae_import import ask, run
from trainings import continuing, imports
from trainings.models import Rehearsal, Sae, Training
from workers import rehearsal, supervisor
from workers.engine.config import Hyperparameters
from workers.engine.saved import Kind, open_sae

pytestmark = pytest.mark.django_db(transaction=True)
SMALL = {
    "num_steps": 60,
    "batch_size": 512,
    "learning_rate": 1e-5,
    "target_l0": 40,
    "buffer_tokens": 8192,
    "held_out_tokens": 1024,
    "checkpoint_interval": 50,
}


def taken_in(roots: Path) -> Sae:
    seed()
    sae = ask("folder", str(write(roots / "blocks.1", an_sae(Kind.JUMPRELU))))
    job = run(sae)
    assert (job.status, job.error_message) == ("done", "")
    return sae


def started(sae: Sae) -> Training:
    asked = {"hyperparameters": Hyperparameters.below_ranges(**SMALL)}
    config = continuing.settled(asked, sae.text, sae)
    return Training.objects.start(
        name="on", tokenization=sae.text, config=config, nudge_workers=False
    )


def trained(training: Training) -> Training:
    assert supervisor.run(str(training.pk), "worker")
    training.refresh_from_db()
    return training


def test_an_imported_sae_is_trained_on_and_needed_no_longer(roots: Path) -> None:
    sae = taken_in(roots)
    training = started(sae)
    measured = Rehearsal.objects.ask(sae.text, training.config)
    assert rehearsal.run(str(measured.pk), "worker")
    measured.refresh_from_db()
    assert (measured.status, measured.error_message) == ("done", "")

    first = trained(training)
    assert (first.status, first.error_message) == ("completed", None)
    before, after = open_sae(sae.folder), open_sae(Path(str(first.sae_path)))
    assert after.kind is Kind.JUMPRELU
    # So small a learning rate leaves each latent reading what it read.
    both = [each.W_enc / each.W_enc.norm(dim=0) for each in (before, after)]
    assert float((both[0] * both[1]).sum(0).min()) > 0.999
    digest = first.run_facts["start_digest"]
    assert after.metadata["started_from"] == {"name": "blocks.1", "sha256": digest}

    # A resumed one goes on from its checkpoint, and a new one has nothing to begin with.
    imports.remove(sae)
    Training.objects.filter(pk=first.pk).update(status="failed")
    Training.objects.restart(first.pk, from_scratch=False)
    assert trained(first).status == "completed"
    Training.objects.filter(pk=first.pk).update(status="failed")
    Training.objects.restart(first.pk, from_scratch=True)
    assert trained(first).status == "failed"
    assert "blocks.1, which this training starts from, is not there" in str(first.error_message)
