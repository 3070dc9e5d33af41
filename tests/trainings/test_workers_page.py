"""The workers on the page, in the API and in a terminal; draining; what a training needs."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db.models.functions import Now
from django.test import Client

from saestudio.access.roles import Role
from tests.people import somebody
from tests.rows import a_training
from trainings import fleet
from trainings.models import Release, Training, Worker
from trainings.models.lease import lease_end
from trainings.needs import Needs
from workers.release import version

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("home", "nudges")]

H100 = {
    "name": "NVIDIA H100 80GB HBM3",
    "uuid": "GPU-1",
    "memory_used": 0,
    "memory_total": 85 * 10**9,
}
SMALL = {"name": "NVIDIA A10", "uuid": "GPU-2", "memory_used": 0, "memory_total": 24 * 10**9}


def a_worker(host: str = "one", **facts: Any) -> Worker:
    kept = {"kind": "trainer", "pid": 1, "slot": "trainer", "version": version()}
    return Worker.objects.create(host=host, **{**kept, **facts})


def a_held_run(worker: Worker) -> Training:
    return a_training(status="running", worker=worker.name, lease_expires_at=lease_end(), attempt=1)


@pytest.mark.parametrize(
    ("needs", "gpus", "met"),
    [
        ({}, [], True),
        ({"gpu_count": 1}, [], False),
        ({"gpu_count": 2}, [H100], False),
        ({"gpu_count": 2}, [H100, SMALL], True),
        ({"gpu_memory_gb": 60}, [SMALL], False),
        ({"gpu_memory_gb": 80}, [SMALL, H100], True),
        ({"gpu_class": "h100"}, [H100], True),
        ({"gpu_class": "H100", "gpu_count": 2}, [H100, SMALL], False),
    ],
)
def test_needs_are_met_by_gpus(needs: dict[str, Any], gpus: list[Any], met: bool) -> None:
    assert Needs(**needs).met_by(gpus) is met


def test_needs_in_words() -> None:
    assert str(Needs()) == ""
    assert str(Needs(gpu_memory_gb=60)) == "a GPU with 60 GB"
    several = Needs(gpu_count=2, gpu_class="H100", gpu_memory_gb=60)
    assert str(several) == "2 GPUs of class H100 with 60 GB each"


def test_states_of_workers() -> None:
    busy, idle = a_worker("a", slot="trainer-0", pid=2), a_worker("a", slot="trainer-1", pid=3)
    run = a_held_run(busy)
    gone = a_worker("b", pid=4)
    Worker.objects.filter(pk=gone.pk).update(seen_at=Now() - timedelta(minutes=2))
    old = a_worker("c", version="0.0.9 (tables 1)")
    Release.objects.update_or_create(pk=1, defaults={"version": version()})
    states = {m.worker.pk: m.state for m in fleet.members()}
    assert states == {busy.pk: "busy", idle.pk: "idle", gone.pk: "gone", old.pk: "refused"}
    Worker.objects.drain([busy.pk, idle.pk])
    states = {m.worker.pk: m.state for m in fleet.members()}
    assert (states[busy.pk], states[idle.pk]) == ("draining", "drained")
    assert next(m.training_id for m in fleet.members()) == run.pk


def test_of_workers_that_follow_each_other_the_newest_is_shown() -> None:
    for _ in range(3):
        a_worker()
    Worker.objects.update(seen_at=Now() - timedelta(minutes=2))
    assert len(fleet.members()) == 1
    alive = a_worker()
    assert [m.worker.pk for m in fleet.members()] == [alive.pk]


def test_who_follows_a_draining_worker_drains() -> None:
    first = a_worker()
    Worker.objects.drain([first.pk])
    pk = uuid4()
    facts = {"kind": "trainer", "host": "one", "pid": 7}
    Worker.objects.seen(pk, {"gpus": []}, slot="trainer", **facts)
    assert Worker.objects.get(pk=pk).draining_since
    other = uuid4()
    Worker.objects.seen(other, {"gpus": []}, slot="trainer-1", **facts)
    assert not Worker.objects.get(pk=other).draining_since


def test_page_shows_hosts_and_only_administrators_drain(client: Client) -> None:
    worker, jobs = a_worker(gpus=[H100]), a_worker(kind="jobs", slot="jobs", pid=2)
    client.force_login(somebody("ada"))
    page = client.get("/workers").content.decode()
    assert "H100" in page
    assert "Drain" not in page.partition("<main")[2].partition("<table")[2]
    body = {"worker": [str(worker.pk), str(jobs.pk)], "drain": "1"}
    assert client.post("/workers/drain", body).status_code == 403
    assert not Worker.objects.exclude(draining_since=None)
    admin = Client()
    admin.force_login(somebody("root", Role.ADMIN))
    admin.post("/workers/drain", body)
    assert Worker.objects.exclude(draining_since=None).count() == 2
    page = admin.get("/workers/hosts").content.decode()
    assert "Take work again" in page
    admin.post("/workers/drain", {"worker": str(worker.pk)})
    assert Worker.objects.get(draining_since=None) == worker
    assert admin.post("/workers/drain", {"worker": "none", "drain": "1"}).status_code == 404


def test_a_run_that_no_worker_can_take_says_so(client: Client) -> None:
    run = a_training(needs={"gpu_memory_gb": 60})
    assert "a GPU with 60 GB" in fleet.why_waiting(run, Worker.objects.trainers())
    assert (
        "no worker that takes work has that" in client.get(f"/trainings/{run.pk}").content.decode()
    )
    able = a_worker(gpus=[H100])
    assert not fleet.why_waiting(run, Worker.objects.trainers())
    Worker.objects.drain([able.pk])
    assert fleet.why_waiting(run, Worker.objects.trainers())


@pytest.mark.parametrize("away", [{"draining_since": Now()}, {"version": "0.0.9 (tables 1)"}])
def test_a_run_says_that_all_who_train_take_nothing(client: Client, away: dict[str, Any]) -> None:
    run, words = a_training(), "drained or of another version"
    Release.objects.update_or_create(pk=1, defaults={"version": version()})
    worker = a_worker()
    assert words not in client.get(f"/trainings/{run.pk}").content.decode()
    Worker.objects.filter(pk=worker.pk).update(**away)
    assert words in client.get(f"/trainings/{run.pk}").content.decode()


def test_doctor_tells_of_workers_that_take_nothing() -> None:
    from trainings.management.commands import doctor

    Release.objects.update_or_create(pk=1, defaults={"version": version()})
    a_worker("a")
    a_worker("b", draining_since=Now())
    a_worker("c", version="0.0.9 (tables 1)")
    said = {f.found: f.state for f in doctor._workers() if f.what == "Worker"}
    assert list(said.values()) == ["ok", "warning", "warning"]
    assert any("c (1). It runs SAE Studio 0.0.9" in words for words in said)


def test_who_follows_one_that_is_gone_does_as_that_one_was_told() -> None:
    gone = a_worker()
    Worker.objects.filter(pk=gone.pk).update(seen_at=Now() - timedelta(hours=2))
    facts = {"kind": "trainer", "host": "one", "slot": "trainer", "pid": 7}
    for wish, drains in (("--drain", True), ("--take", False)):
        call_command("workers", wish, "one", stdout=StringIO())
        Worker.objects.seen(pk := uuid4(), {"gpus": []}, **facts)
        assert bool(Worker.objects.get(pk=pk).draining_since) is drains
        Worker.objects.filter(pk=pk).update(seen_at=Now() - timedelta(hours=1))


def test_needs_are_asked_for_in_form_and_api(client: Client) -> None:
    from tests.trainings.test_start_form import NEW, filled

    client.post(NEW, filled(name="big", gpus="2", gpu_class="H100", gpu_memory_gb="60"))
    run = Training.objects.get(name="big")
    assert run.needs == {"gpu_class": "H100", "gpu_memory_gb": 60.0}
    assert str(run.what_it_needs) == "2 GPUs of class H100 with 60 GB each"
    refused = client.post(NEW, filled(gpu_memory_gb="lots"))
    assert refused.status_code == 422
    assert "Enter a number" in refused.content.decode()
    page = client.get(f"/trainings/{run.pk}/clone").content.decode()
    assert 'value="H100"' in page
    body = {
        "name": "over the API",
        "tokenization_id": str(run.tokenization_id),
        "layer": 1,
        "architecture": "standard",
        "needs": {"gpu_class": "A10"},
    }

    def post(body: dict[str, Any]) -> Any:
        return client.post("/api/v1/trainings", json.dumps(body), content_type="application/json")

    answer = post(body)
    assert answer.status_code == 201, answer.content
    assert Training.objects.get(name="over the API").needs == {"gpu_class": "A10"}
    wrong = post(body | {"needs": {"gpu_count": -1, "gpus": 2}}).json()["errors"]
    assert {error["field"] for error in wrong} == {"gpu_count", "gpus"}
    [wrong] = post(body | {"needs": {"gpu_class": "A\x0010"}}).json()["errors"]
    assert wrong["field"] == "gpu_class"
    assert "null characters" in wrong["message"]


def test_command_lists_and_drains() -> None:
    worker = a_worker("gpu-box", gpus=[H100])
    out = StringIO()
    call_command("workers", stdout=out)
    assert "gpu-box" in out.getvalue()
    out = StringIO()
    call_command("workers", drain="gpu-box/trainer", json=True, stdout=out)
    assert json.loads(out.getvalue())[0]["state"] == "drained"
    call_command("workers", take="gpu-box", stdout=StringIO())
    worker.refresh_from_db()
    assert worker.draining_since is None
    # A variable of the shell that is not set is no host, and not all of them.
    for nobody in ("nobody", ""):
        with pytest.raises(CommandError, match="Hosts: gpu-box"):
            call_command("workers", drain=nobody)
