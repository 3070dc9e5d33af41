"""Jobs over SAEs run in a child process: their results, failures, and their end in time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_for
from tests.engine.test_evaluation import random_sae, write
from tests.rows import EVALUATION, a_training, an_sae
from tests.tiny import seed
from tests.workers.test_rehearsal import Install, child, is_gone
from tests.workers.test_supervisor import in_thread
from trainings.models import Sae, SaeJob, Training
from workers import fleet, sae_jobs, sweeper
from workers.engine.features import FeatureTable
from workers.recorder import Recorder

__all__ = ["child"]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def sae(tmp_path: Path) -> Sae:
    return an_sae(tmp_path / "attempt-1" / "sae")


def ask(sae: Sae, kind: str = "evaluate", text: str = "") -> SaeJob:
    return SaeJob.objects.ask(sae, SaeJob.Kind(kind), sae.text, text=text)


def run(job: SaeJob) -> SaeJob:
    assert sae_jobs.run(str(job.pk), "worker")
    job.refresh_from_db()
    return job


def said(**line: Any) -> str:
    return f"print({json.dumps(json.dumps(line))}, flush=True)\n"


@pytest.mark.long
def test_the_engine_evaluates_collects_and_probes(home: Path, tmp_path: Path) -> None:
    """With the real engine on a real folder; four processes."""
    seed()
    sae = an_sae(tmp_path / "attempt-1" / "none")
    folder = write(tmp_path / "attempt-1" / "sae", random_sae(W_enc=random_sae().W_enc * 40))
    Sae.objects.update(path=str(folder))
    sae.refresh_from_db()
    evaluated = run(ask(sae))
    assert (evaluated.status, evaluated.error_message) == ("done", "")
    assert evaluated.result["ce_clean"] > 0
    sae.refresh_from_db()
    assert sae.evaluation["ce_recovered"] == evaluated.result["ce_recovered"]
    collected = run(ask(sae, "features"))
    assert collected.status == "done", collected.error_message
    assert FeatureTable(sae.features_path).count == collected.result["latents_alive"]
    probed = run(ask(sae, "probe", "w4 w5 w60"))
    assert probed.result["tokens"] == [" w4", " w5", " w60"]
    written = run(SaeJob.objects.ask(sae, SaeJob.Kind.EXPORT, sae.text, format="sparsify"))
    assert written.status == "done", written.error_message
    assert written.result["max_difference"] < 1e-5
    card = (sae.export_path("sparsify") / "README.md").read_text()
    assert "tiny-llama" in card
    assert f"{sae.evaluation['ce_recovered']:.4g}" in card
    assert [job.progress for job in SaeJob.objects.all()] == [1.0] * 4


def test_what_the_child_finds_is_the_saes_on_its_own_text_alone(sae: Sae, child: Install) -> None:
    child(said(event="progress", share=0.5, note="x") + said(event="done", result={"fvu": 0.5}))
    run(ask(sae))
    sae.refresh_from_db()
    assert sae.evaluation == EVALUATION | {"fvu": 0.5}
    own = sae.text
    other = type(own).objects.create(
        model=own.model, dataset=own.dataset, context_length=32, status="ready"
    )
    child(said(event="done", result={"fvu": 0.9}))
    job = run(SaeJob.objects.ask(sae, SaeJob.Kind.EVALUATE, other))
    assert job.result == {"fvu": 0.9}
    sae.refresh_from_db()
    assert sae.evaluation["fvu"] == 0.5


def test_numbers_of_an_sae_that_was_exported_anew_meanwhile_are_not_its_own(
    sae: Sae, child: Install, tmp_path: Path
) -> None:
    path, begun = tmp_path / "go", tmp_path / "begun"
    child(
        f"open({str(begun)!r}, 'w').close()\n"
        f"while not os.path.exists({str(path)!r}): time.sleep(0.01)\n"
        + said(event="done", result={"fvu": 0.5})
    )
    job = ask(sae)
    thread = in_thread(lambda: sae_jobs.run(str(job.pk), "worker"))
    wait_for(begun.exists, "the child")
    Sae.objects.update(step=2000)
    path.touch()
    thread.join(30)
    assert SaeJob.objects.get().status == "done"
    sae.refresh_from_db()
    assert sae.evaluation == EVALUATION


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (said(event="failed", step=0, error="It has no layer 9."), "It has no layer 9."),
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("sys.exit(3)", "exit code 3"),
    ],
)
def test_a_failure_is_told(sae: Sae, child: Install, body: str, told: str) -> None:
    child(body)
    job = run(ask(sae))
    assert job.status == "failed"
    assert told in job.error_message
    assert job.ended_at is not None


def test_a_folder_that_is_gone_is_told(sae: Sae) -> None:
    Path(sae.path).rmdir()
    assert "is not there any more" in run(ask(sae)).error_message


def endless(tmp_path: Path, child: Install, job: SaeJob) -> tuple[Any, int]:
    path = tmp_path / "pid"
    child(f"open({str(path)!r}, 'w').write(str(os.getpid())); signal.pause()")
    thread = in_thread(lambda: sae_jobs.run(str(job.pk), "worker"))
    return thread, int(wait_for(lambda: path.exists() and path.read_text(), "the child"))


def test_deleting_the_training_ends_the_job(
    sae: Sae, child: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sae_jobs, "RENEW_EVERY", 0.05)
    thread, pid = endless(tmp_path, child, ask(sae))
    Training.objects.all().delete()
    thread.join(30)
    assert not thread.is_alive()
    assert is_gone(pid)
    assert not SaeJob.objects.exists()


def test_a_worker_that_ends_leaves_the_job_to_the_next(
    sae: Sae, child: Install, tmp_path: Path
) -> None:
    job = ask(sae)
    thread, pid = endless(tmp_path, child, job)
    fleet.shutting_down.set()
    try:
        thread.join(30)
    finally:
        fleet.shutting_down.clear()
    assert is_gone(pid)
    job.refresh_from_db()
    assert (job.status, job.interruptions) == ("pending", 0)


def test_a_child_that_hangs_is_ended(
    sae: Sae, child: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sae_jobs, "LONGEST_SILENCE", 0.3)
    child("signal.pause()")
    assert "said nothing" in run(ask(sae)).error_message


def test_a_lost_job_is_swept_twice_and_then_given_up(sae: Sae, redis_server: str) -> None:
    job = ask(sae)
    for lost in range(3):
        assert SaeJob.objects.claim(job.pk, "gone") is not None
        SaeJob.objects.update(lease_expires_at="2020-01-01T00:00:00Z")
        sweeper._sae_jobs(sweeper.Leases())
        job.refresh_from_db()
        assert job.status == ("pending" if lost < 2 else "failed")
    assert "ran out of memory" in job.error_message


def test_an_sae_that_was_trained_further_is_evaluated_anew(sae: Sae, tmp_path: Path) -> None:
    """The old job's numbers are another SAE's; asking again is a job of its own."""
    old = ask(sae)
    Sae.objects.update(step=2000, path=str(tmp_path / "attempt-2" / "sae"))
    sae.refresh_from_db()
    new = ask(sae)
    assert new.pk != old.pk
    assert (old.step, new.step) == (1000, 2000)


def test_jobs_that_write_one_file_are_one_whichever_text_they_read(sae: Sae) -> None:
    own = sae.text
    other = type(own).objects.create(
        model=own.model, dataset=own.dataset, context_length=32, status="ready"
    )
    kind = SaeJob.Kind.FEATURES
    assert ask(sae, "features") == SaeJob.objects.ask(sae, kind, other)
    assert ask(sae) != SaeJob.objects.ask(sae, SaeJob.Kind.EVALUATE, other)


def test_jobs_of_a_training_that_is_being_deleted_are_not_begun(sae: Sae) -> None:
    job = ask(sae)
    Training.objects.update(delete_requested_at="2026-01-01T00:00:00Z")
    assert not sae_jobs.run(str(job.pk), "worker")


def test_what_nobody_foresaw_fails_the_job_at_once(
    sae: Sae, child: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    child(said(event="done", result={}))

    def broken(*_: object) -> None:
        raise RuntimeError("who knows")

    monkeypatch.setattr(sae_jobs, "_done", broken)
    job = run(ask(sae))
    assert (job.status, job.interruptions) == ("failed", 0)
    assert "RuntimeError: who knows" in job.error_message


def test_a_completed_training_is_evaluated_and_a_stopped_one_is_not(
    settings: Any, tmp_path: Path
) -> None:
    settings.EVALUATE = True
    for event, expected in (("stopped", 0), ("completed", 1)):
        training = a_training(status="running", attempt=1)
        recorder = Recorder(training.pk, 1)
        recorder.take(
            {
                "event": event,
                "step": 1000,
                "final_loss": 0.1,
                "sae_path": str(tmp_path),
                "evaluation": EVALUATION,
                "export": {"format": "saelens", "max_difference": 0.0},
            }
        )
        recorder.flush()
        assert SaeJob.objects.filter(sae__training=training).count() == expected
