"""A worker among others: what it may begin, what it passes on, and when it hands over."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from dramatiq.brokers.redis import RedisBroker

from tests.conftest import wait_for
from tests.rows import a_training, an_sae
from tests.workers.test_supervisor import STOPPED, child, in_thread
from trainings.fleet import members, why_waiting
from trainings.models import Release, SaeJob, Training, Worker
from trainings.models.lease import lease_end
from trainings.models.release import keep
from workers import actors, broker, fleet, pulse, release, supervisor

__all__ = ["child"]
pytestmark = pytest.mark.django_db(transaction=True)

GPU = {"name": "NVIDIA H100", "uuid": "GPU-1", "memory_used": 0, "memory_total": 80 * 10**9}


@pytest.fixture(autouse=True)
def queues(redis_server: str) -> Iterator[RedisBroker]:
    """Empty queues."""
    here = broker.broker()
    here.client.flushdb()
    yield here
    here.client.flushdb()


@pytest.fixture
def me(child, redis_server: str) -> Iterator[Worker]:  # type: ignore[no-untyped-def]
    """This process, enlisted as a trainer; its folder is the studio's."""
    keep("default")
    row = _trainer(host="here", pid=1)
    fleet.enlist([row.pk])
    yield row
    fleet.enlist([])
    fleet.draining.clear()


def _trainer(**facts: Any) -> Worker:
    kept = {"kind": "trainer", "slot": "trainer", "version": release.version()}
    return Worker.objects.create(**{**kept, **facts})


def delayed() -> int:
    return int(broker.broker().client.llen(f"dramatiq:{broker.TRAININGS}.DQ"))


FAILS = "say(event='failed', error='enough', step=0)"


def test_a_run_is_begun_by_a_worker_that_has_what_it_needs(child, me: Worker) -> None:  # type: ignore[no-untyped-def]
    child(FAILS)
    first = a_training(name="large", needs={"gpu_class": "h100", "gpu_memory_gb": 70}, priority=5)
    second = a_training(name="small")
    assert supervisor.run_next("me") == [second.pk]
    assert supervisor.run_next("me") == []
    Worker.objects.update(gpus=[GPU])
    assert supervisor.run_next("me") == [first.pk]


def test_a_run_on_several_gpus_is_begun_by_a_worker_that_has_as_many(child, me: Worker) -> None:  # type: ignore[no-untyped-def]
    child(FAILS)
    run = a_training(hyperparameters={"gpus": 2})
    assert supervisor.run_next("me") == []
    Worker.objects.update(gpus=[GPU])
    assert supervisor.run_next("me") == []
    Worker.objects.update(gpus=[GPU, GPU])
    assert supervisor.run_next("me") == [run.pk]


def test_a_drained_worker_begins_nothing(child, me: Worker, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    child(FAILS)
    run, sae = a_training(), an_sae(tmp_path)
    job = SaeJob.objects.ask(sae, SaeJob.Kind.EVALUATE, sae.text)
    Worker.objects.drain([me.pk])
    fleet.look()
    assert supervisor.run_next("me") == []
    actors.run_sae_job(str(job.pk))
    assert SaeJob.objects.get().status == "pending"
    Worker.objects.end_draining([me.pk])
    fleet.look()
    assert supervisor.run_next("me") == [run.pk]


def test_a_worker_knows_at_once_that_it_takes_work_again(child, me: Worker) -> None:  # type: ignore[no-untyped-def]
    child(FAILS)
    run = a_training()
    Worker.objects.drain([me.pk])
    assert supervisor.run_next("me") == []
    Worker.objects.end_draining([me.pk])
    assert supervisor.run_next("me") == [run.pk]


def test_a_worker_that_begins_in_a_drained_place_knows_it_before_its_first_message(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SLOT = "this test's"
    monkeypatch.setattr(pulse, "_beat", lambda named: None)  # its first word is enough
    facts = {"host": socket.gethostname(), "pid": 1, "slot": settings.SLOT}
    Worker.objects.drain([_trainer(**facts, kind="sweeper").pk])
    try:
        pulse.begin(["sweeper"])
        assert fleet.refusal() == "It is being drained."
    finally:
        fleet.enlist([])
        fleet.draining.clear()


def test_a_worker_of_another_version_begins_nothing(child, me: Worker) -> None:  # type: ignore[no-untyped-def]
    child(FAILS)
    run = a_training()
    Release.objects.update_or_create(pk=1, defaults={"version": "9.0 (tables 99)"})
    assert supervisor.run_next("me") == []
    assert "9.0 (tables 99)" in fleet.refusal()
    Release.objects.update(version=release.version())
    assert supervisor.run_next("me") == [run.pk]


def test_a_worker_whose_artefacts_would_lie_elsewhere_begins_nothing(  # type: ignore[no-untyped-def]
    child, me: Worker, settings: Any, tmp_path: Path
) -> None:
    """A shared folder that is not mounted is an empty one of the same name."""
    child(FAILS)
    run, studios, own = a_training(), tmp_path / "mounted", tmp_path / "not mounted"
    settings.HOME = studios
    keep("default")
    own.mkdir()
    settings.HOME = own
    assert supervisor.run_next("me") == []
    assert list(own.iterdir()) == []
    (member,) = members()
    assert (member.state, member.worker) == ("refused", me)
    assert "mount the folder that the others have" in member.refusal
    assert why_waiting(run, Worker.objects.trainers()).endswith("would lie elsewhere.")

    settings.HOME = tmp_path / "by another name"
    settings.HOME.symlink_to(studios)
    assert supervisor.run_next("me") == [run.pk]
    (member,) = members()
    assert (member.state, member.refusal) == ("idle", "")


def test_a_worker_without_the_studios_store_begins_nothing(  # type: ignore[no-untyped-def]
    child, me: Worker, settings: Any, tmp_path: Path
) -> None:
    child(FAILS)
    settings.HOME, run = tmp_path / "own", a_training()
    keep("default")
    for name in ("studios", "another"):
        (tmp_path / name).mkdir()
    settings.STORE = f"file://{tmp_path}/studios"
    keep("default")
    for wrong in ("", f"file://{tmp_path}/another"):
        settings.STORE = wrong
        assert supervisor.run_next("me") == []
        assert "their SAESTUDIO_STORE" in Worker.objects.get(pk=me.pk).refusal
    settings.STORE = f"file://{tmp_path}/gone"
    assert supervisor.run_next("me") == []
    assert "is it mounted?" in Worker.objects.get(pk=me.pk).refusal
    settings.STORE = f"file://{tmp_path}/studios"
    assert supervisor.run_next("me") == [run.pk]


def test_a_studio_whose_place_cannot_be_marked_compares_none(settings: Any, tmp_path: Path) -> None:
    """As one behind a read-only disk: the version is kept all the same."""
    settings.HOME = tmp_path / "file" / "below"
    (tmp_path / "file").touch()
    keep("default")
    assert Release.objects.get().version == release.version()
    assert Release.objects.all().elsewhere("") == Release.objects.all().elsewhere("x") == ""


def test_a_process_that_nobody_enlisted_does_what_it_is_told(child) -> None:  # type: ignore[no-untyped-def]
    child(FAILS)
    Release.objects.update_or_create(pk=1, defaults={"version": "9.0 (tables 99)"})
    assert supervisor.run_next("a command") == []
    run = a_training()
    assert supervisor.run_next("a command") == [run.pk]


def test_migrate_says_of_which_version_the_database_is() -> None:
    from django.core.management import call_command

    Release.objects.all().delete()
    call_command("migrate", verbosity=0)
    assert Release.objects.get().version == release.version()


def test_migrate_of_the_version_before_takes_the_studio_back() -> None:
    from django.core.management import call_command

    Release.objects.update_or_create(pk=1, defaults={"version": "9.0 (tables 99)"})
    call_command("migrate", verbosity=0)
    assert Release.objects.get().version == release.version()


def test_draining_hands_a_run_over_and_tells_the_others(child, me: Worker) -> None:  # type: ignore[no-untyped-def]
    child(STOPPED + "signal.pause()")
    training = a_training()
    thread = in_thread(lambda: supervisor.run(str(training.pk), "me"))
    wait_for(lambda: Training.objects.get().status == "running", "the run")
    wait_for(lambda: Training.objects.get().run_facts, "the child to begin")
    Worker.objects.drain([me.pk])
    fleet.look()
    thread.join(30)
    training.refresh_from_db()
    assert (training.status, training.interruptions) == ("pending", 0)
    assert broker.broker().client.llen(f"dramatiq:{broker.TRAININGS}") == 1


def test_what_this_worker_cannot_do_is_passed_on_to_an_idle_one_that_can(me: Worker) -> None:
    run = a_training(needs={"gpu_class": "H100"})
    actors.run_training(str(run.pk))
    assert delayed() == 0  # nobody could
    able = _trainer(host="there", pid=2, gpus=[GPU])
    actors.run_training(str(run.pk))
    assert delayed() == 1
    broker.broker().client.flushdb()
    a_training(name="other", status="running", worker=able.name, lease_expires_at=lease_end())
    actors.run_training(str(run.pk))
    assert delayed() == 0  # it looks for itself once it is done


def test_a_trainer_goes_on_until_nothing_waits(child, me: Worker) -> None:  # type: ignore[no-untyped-def]
    child(FAILS)
    for n in range(3):
        a_training(name=str(n))
    actors.run_training(str(uuid4()))
    assert set(Training.objects.values_list("status", flat=True)) == {"failed"}


def test_a_pulse_says_what_its_machine_is(me: Worker) -> None:
    pk = uuid4()
    pulse._say({pk: "trainer"}, [GPU])  # type: ignore[list-item]
    row = Worker.objects.get(pk=pk)
    assert (row.version, row.slot, row.gpus) == (release.version(), "trainer", [GPU])
    assert row.cores
    assert 0 < row.memory_available <= row.memory_total
