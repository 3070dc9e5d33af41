"""What load balancers and Prometheus are told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db.models.functions import Now
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from saestudio import health
from saestudio.access import tokens
from tests.conftest import Studio, wait_for
from tests.people import somebody
from tests.rows import a_training
from trainings.models import Training, Worker
from trainings.models.lease import lease_end

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("home")]


def workers(*kinds: str) -> None:
    for kind in kinds:
        Worker.objects.create(kind=kind, host="here", pid=1)


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_redis", lambda: "ok")


def ready() -> tuple[int, dict[str, str]]:
    answer = Client().get("/readyz")
    return answer.status_code, answer.json()


@pytest.mark.usefixtures("answering")
def test_ready_when_all_is_there() -> None:
    workers("trainer", "jobs", "saes", "sweeper")
    assert ready() == (200, dict.fromkeys(("database", "redis", "disk", "workers"), "ok"))


@pytest.mark.usefixtures("answering")
def test_worker_that_is_not_seen_is_named() -> None:
    workers("trainer", "sweeper")
    Worker.objects.filter(kind="trainer").update(seen_at=Now() - timedelta(minutes=2))
    status, parts = ready()
    assert (status, parts["workers"]) == (503, "no trainer and no jobs and no saes is seen")


@pytest.mark.usefixtures("answering")
def test_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    workers("trainer", "jobs", "saes", "sweeper")
    monkeypatch.setattr(health, "LEAST_DISK", 10**18)
    status, parts = ready()
    assert (status, "are free" in parts["disk"]) == (503, True)


def test_a_worker_is_one_row_however_often_it_is_seen() -> None:
    pk = uuid4()
    for _ in range(3):
        Worker.objects.seen(pk, {}, kind="jobs", host="here", pid=1, slot="jobs")
    assert Worker.objects.alive().count() == 1
    Worker.objects.update(seen_at=Now() - timedelta(days=2))
    assert Worker.objects.forget() == 1


def prometheus() -> Client:
    token = tokens.make(somebody(), "prometheus", read_only=True, days=None)[1]
    return Client(headers={"Authorization": f"Bearer {token}"})


def measures(client: Any) -> dict[tuple[str, str], float]:
    """By name, and the training or else the first label."""
    text = client.get("/metrics").content.decode()
    return {
        (sample.name, _label(sample.labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _label(labels: dict[str, str]) -> str:
    return labels.get("training") or next(iter(labels.values()), "")


def test_prometheus_reads_what_runs_and_what_waits() -> None:
    run = a_training(status="running", current_step=500, latest={"tokens_per_second": 9e3})
    Training.objects.filter(pk=run.pk).update(lease_expires_at=lease_end() - timedelta(seconds=20))
    a_training(), a_training(status="failed")
    workers("trainer")
    found = measures(prometheus())
    assert found["saestudio_trainings", "failed"] == 1
    assert found["saestudio_queue_depth", "trainings"] == 1
    assert found["saestudio_training_step", str(run.pk)] == 500
    assert found["saestudio_training_tokens_per_second", str(run.pk)] == 9e3
    assert 20 <= found["saestudio_training_lease_age_seconds", str(run.pk)] < 30
    assert (found["saestudio_workers", "trainer"], found["saestudio_workers", "jobs"]) == (1, 0)
    assert found["saestudio_disk_free_bytes", ""] > 0


def test_strangers_are_told_no_measures() -> None:
    assert Client().get("/metrics").status_code == 401


@pytest.mark.studio
def test_workers_of_a_running_studio_say_that_they_live(studio: Studio) -> None:
    session = studio.session()
    wait_for(lambda: session.get(f"{studio.url}/readyz").ok, "all workers to be seen")
    assert session.get(f"{studio.url}/readyz").json()["workers"] == "ok"


def test_memory_of_a_gpu_is_told_once_however_many_trainers_share_it() -> None:
    gpu = {"name": "a large one", "uuid": "GPU-aa", "memory_used": 1, "memory_total": 80}
    first, second, gone = uuid4(), uuid4(), uuid4()
    for pk in (first, second, gone):
        Worker.objects.seen(pk, {"gpus": [gpu]}, kind="trainer", host="here", pid=1, slot="t")
    Worker.objects.seen(first, {"gpus": [{**gpu, "memory_used": 3}]})
    other = {**gpu, "uuid": "GPU-bb"}
    Worker.objects.seen(gone, {"gpus": [other]})
    Worker.objects.filter(pk=gone).update(seen_at=Now() - timedelta(minutes=2))
    text = prometheus().get("/metrics").content.decode()
    labels = '{gpu="GPU-aa",host="here",name="a large one"}'
    assert f"saestudio_gpu_memory_used_bytes{labels} 3.0" in text
    assert f"saestudio_gpu_memory_total_bytes{labels} 80.0" in text
    assert "GPU-bb" not in text
