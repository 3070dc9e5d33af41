"""What a run saves goes to the store while it trains; its rows wait for that, and nothing else."""

from __future__ import annotations

import hashlib
import json
import shutil
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db.models.functions import Now

from tests.conftest import wait_for
from tests.rows import a_tokenization, a_training
from tests.workers.test_supervisor import in_thread
from trainings import live, logs, nudge, store, sweeps, wishes
from trainings.models import Checkpoint, Training
from trainings.models.release import keep
from trainings.store import remote
from trainings.sweeps import Asked
from workers import fleet, process, recorder, supervisor, uploads

pytestmark = pytest.mark.django_db(transaction=True)

# What the engine does, without training: it writes files and tells of them.
ENGINE = """
import hashlib, json, os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[-1])
dirs = json.loads((folder / "members.json").read_text()) if "--sweep" in sys.argv else [folder]
dirs = [pathlib.Path(d) for d in dirs]
specs = [json.loads((d / "run.json").read_text()) for d in dirs]
def say(event, whose=0, **facts):
    told = {"event": event, "training_id": specs[whose]["training_id"], **facts}
    print(json.dumps(told), flush=True)
def save(step, whose=0):
    path = dirs[whose] / "checkpoints" / f"step-{step:06d}"
    path.mkdir(parents=True)
    files = {}
    for name in ("tensors.safetensors", "state.json"):
        (path / name).write_text(f"{name} of {step}")
        data = (path / name).read_bytes()
        files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (path / "manifest.json").write_text(json.dumps({"files": files}))
    return path
def checkpoint(step, whose=0):
    path = save(step, whose)
    say("checkpoint", whose, step=step, checkpoint_path=str(path), bytes=1, sha256="0" * 64,
        seconds=0.1, stalled_seconds=0.0, fvu=0.5)
def point(step, whose=0):
    say("progress", whose, step=step, loss=1.0, l0=2.0, l1=1.0, reconstruction_loss=0.5, fvu=0.1)
def ended(step, event="completed", whose=0):
    sae = dirs[whose] / "sae"
    sae.mkdir()
    (sae / "cfg.json").write_text("{}")
    say(event, whose, step=step, sae_path=str(sae), final_loss=0.5, evaluation=None,
        export={"format": "saelens"})
def until(name):
    while not (folder.parent / name).exists():
        time.sleep(0.02)
for n, _ in enumerate(dirs):
    say("phase", n, step=0, phase="loading_model")
    say("started", n, step=0, resumed_from=None)
def paused(*_):
    say("paused", step=7)
    sys.exit(0)
signal.signal(signal.SIGUSR1, paused)
"""
Install = Callable[[str], None]


class Switch:
    """A store that can be away: it fails at once, or it keeps whoever asks waiting."""

    def __init__(self) -> None:
        self.away = False
        self.may_send = threading.Event()
        self.may_send.set()
        self.sent: list[str] = []


@pytest.fixture
def switch(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Switch]:
    settings.HOME, settings.STORE = tmp_path / "ada", f"file://{tmp_path / 'shared'}"
    (tmp_path / "shared").mkdir()
    monkeypatch.setattr(live, "publish", lambda *_: None)
    monkeypatch.setattr(remote, "PAUSES", ())
    monkeypatch.setattr(uploads, "PAUSES", (0.05, 0.05))
    found = Switch()
    tried, send = remote.Remote._tried, remote.Remote.send

    def perhaps(self: Any, what: str, do: Any, go_on: Any, pauses: Any = None) -> Any:
        def or_away() -> Any:
            if found.away:
                raise OSError("no route to host")
            return do()

        return tried(self, what, or_away, go_on, pauses)

    def waiting(self: Any, path: Path, name: str, go_on: Any) -> None:
        found.may_send.wait(30)
        send(self, path, name, go_on)
        found.sent.append(name)

    monkeypatch.setattr(remote.Remote, "_tried", perhaps)
    monkeypatch.setattr(remote.Remote, "send", waiting)
    yield found
    found.may_send.set()


@pytest.fixture
def engine(switch: Switch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    def install(body: str) -> None:
        script = tmp_path / "engine.py"
        script.write_text(ENGINE + textwrap.dedent(body), encoding="utf-8")
        monkeypatch.setattr(process, "ENGINE", (str(script),))

    return install


@pytest.fixture
def training(switch: Switch) -> Training:
    made = a_training()
    for folder in (made.model.folder, made.tokenization.folder):
        folder.mkdir(parents=True)
        (folder / "file").write_text("content")
        store.put(folder)
    switch.sent.clear()
    return made


def run(training: Training) -> Training:
    assert supervisor.run(str(training.pk), "worker")
    training.refresh_from_db()
    return training


def steps(training: Training) -> list[int]:
    return sorted(training.checkpoints.values_list("step", flat=True))


def test_a_completed_run_is_whole_in_the_store(engine: Install, training: Training) -> None:
    engine("checkpoint(5)\nprint('a library speaks', file=sys.stderr)\nended(9)")
    assert run(training).status == "completed"
    assert store.has(Path(training.checkpoints.get().path))
    assert store.has(training.sae.folder)
    settings_home = training.folder
    shutil.rmtree(settings_home)
    store.fetch(training.log_path)
    assert "step-000005 is in the store" in logs.tail(training.log_path)


def test_the_row_of_a_checkpoint_waits_and_points_and_stops_do_not(
    engine: Install, training: Training, switch: Switch
) -> None:
    engine(
        "checkpoint(5)\npoint(6)\n"
        "def stop(*_):\n    ended(7, 'stopped')\n    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\nuntil('never')"
    )
    switch.may_send.clear()
    thread = in_thread(lambda: supervisor.run(str(training.pk), "worker"))
    wait_for(lambda: training.metrics.exists(), "the point")
    assert not training.checkpoints.exists()
    assert Training.objects.request_stop(training.pk)
    sae = training.attempt_folder(1) / "sae"
    wait_for(sae.exists, "the process to stop")
    training.refresh_from_db()
    assert training.status == "running", "its last word waits for its files"
    switch.may_send.set()
    thread.join(30)
    training.refresh_from_db()
    assert (training.status, steps(training)) == ("stopped", [5])
    assert store.has(sae)


def test_the_lease_is_renewed_while_the_last_word_waits(
    engine: Install, training: Training, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "RENEW_EVERY", 0.1)
    engine("ended(9)")
    switch.may_send.clear()
    thread = in_thread(lambda: supervisor.run(str(training.pk), "worker"))
    wait_for((training.attempt_folder(1) / "sae" / "cfg.json").exists, "the SAE")
    held = Training.objects.filter(pk=training.pk, status="running")
    held.update(lease_expires_at=Now())
    wait_for(lambda: held.filter(lease_expires_at__gt=Now()).exists(), "the lease to be renewed")
    switch.may_send.set()
    thread.join(30)
    training.refresh_from_db()
    assert training.status == "completed"


def test_of_checkpoints_that_come_faster_than_they_go_the_newest_is_sent(
    engine: Install, training: Training, switch: Switch
) -> None:
    engine("checkpoint(1)\nuntil('sending')\ncheckpoint(2)\ncheckpoint(3)\nended(9)")
    switch.may_send.clear()
    thread = in_thread(lambda: supervisor.run(str(training.pk), "worker"))
    wait_for((training.attempt_folder(1) / "checkpoints" / "step-000001").exists, "the first")
    (training.folder / "sending").touch()
    wait_for((training.attempt_folder(1) / "sae" / "cfg.json").exists, "the SAE")
    switch.may_send.set()
    thread.join(30)
    assert steps(training) == [1, 3]
    left = [path.name for path in (training.attempt_folder(1) / "checkpoints").iterdir()]
    assert sorted(left) == ["step-000001", "step-000003"]


def test_a_store_that_comes_back_has_everything(
    engine: Install, training: Training, switch: Switch
) -> None:
    engine("until('go')\ncheckpoint(5)\nuntil('back')\nended(9)")
    thread = in_thread(lambda: supervisor.run(str(training.pk), "worker"))
    wait_for(lambda: Training.objects.filter(phase="loading_model").exists(), "its process")
    switch.away = True
    (training.folder / "go").touch()
    wait_for(lambda: _warned(training), "the page to say that the store is away")
    (training.folder / "back").touch()
    switch.away = False
    thread.join(30)
    training.refresh_from_db()
    assert (training.status, steps(training)) == ("completed", [5])


def _warned(training: Training) -> bool:
    training.refresh_from_db()
    return any("no route to host" in w["message"] for w in training.run_warnings)


def test_a_store_that_stays_away_fails_it_and_its_host_goes_on_later(
    engine: Install, training: Training, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "PATIENCE", 0.5)
    engine("until('go')\ncheckpoint(5)\nended(9)")
    thread = in_thread(lambda: supervisor.run(str(training.pk), "worker"))
    wait_for(lambda: Training.objects.filter(phase="loading_model").exists(), "its process")
    switch.away = True
    (training.folder / "go").touch()
    thread.join(30)
    training.refresh_from_db()
    assert training.status == "failed"
    assert "no route to host). It is kept on" in (training.error_message or "")
    assert not training.checkpoints.exists()

    switch.away = False
    assert wishes.restart(training, from_scratch=False)
    engine("say('warning', step=0, code='x', message=' '.join(specs[0]['resume_from']))\nended(9)")
    assert run(training).status == "completed"
    assert steps(training) == [5], "sent before the process began"
    assert training.run_warnings[-1]["message"].endswith("step-000005")


def test_a_checkpoint_that_is_harmed_before_it_is_sent_gets_no_row(
    engine: Install, training: Training
) -> None:
    engine(
        "path = save(5)\n(path / 'state.json').write_text('torn')\n"
        "say('checkpoint', step=5, checkpoint_path=str(path), bytes=1, sha256='0' * 64,"
        " seconds=0.1, stalled_seconds=0.0, fvu=0.5)\nended(9)"
    )
    assert run(training).status == "completed"
    assert steps(training) == []
    assert "state.json is not what was written" in training.run_warnings[-1]["message"]


def test_thinned_checkpoints_leave_the_store(engine: Install, training: Training) -> None:
    engine("for step in range(1, 7):\n    checkpoint(step)\n    until(f'sent {step}')\nended(9)")
    thread = in_thread(lambda: supervisor.run(str(training.pk), "worker"))
    for step in range(1, 7):
        wait_for(lambda step=step: step in steps(training), f"step {step}")
        (training.folder / f"sent {step}").touch()
    thread.join(30)
    assert steps(training) == [4, 5, 6]
    kept = store.children(training.attempt_folder(1) / "checkpoints")
    assert kept == [f"step-{step:06d}" for step in (4, 5, 6)]


@pytest.fixture
def elsewhere(training: Training, settings: Any, tmp_path: Path) -> Callable[[], None]:
    """From now on this is another host."""

    def move() -> None:
        settings.HOME = tmp_path / "bell"
        for row in (training, training.model, training.tokenization):
            assert not row.folder.exists()

    return move


def moved(training: Training, home: Path) -> None:
    """Rows name absolute paths, the same on each host; here the hosts' folders differ."""
    for checkpoint in training.checkpoints.all():
        path = Path(checkpoint.path)
        checkpoint.path = str(home / path.relative_to(path.parents[4]))
        checkpoint.save()


def saved(training: Training, step: int, fvu: float = 0.5) -> Path:
    """A checkpoint that an attempt before has put into the store."""
    path = training.attempt_folder(1) / "checkpoints" / f"step-{step:06d}"
    path.mkdir(parents=True)
    files = {}
    for name in ("tensors.safetensors", "state.json"):
        data = f"{name} of {step}".encode()
        (path / name).write_bytes(data)
        files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (path / "manifest.json").write_text(json.dumps({"files": files}))
    store.put(path)
    Checkpoint.objects.create(
        training=training, attempt=1, step=step, path=str(path), size_bytes=1, sha256="x", fvu=fvu
    )
    return path


RESUMES = (
    "say('warning', step=0, code='x',"
    " message=' '.join(p[-11:] for p in specs[0]['resume_from'] if os.path.isdir(p)))\nended(9)"
)


def test_another_host_goes_on_from_the_newest_checkpoint(
    engine: Install, training: Training, elsewhere: Callable[[], None], settings: Any
) -> None:
    for step in (1, 2):
        saved(training, step)
    elsewhere()
    moved(training, settings.HOME)
    engine(RESUMES)
    assert run(training).status == "completed"
    assert training.run_warnings[-1]["message"] == "step-000002"
    assert (training.model.folder / "file").read_text() == "content"


def test_a_checkpoint_that_cannot_be_fetched_is_set_aside_and_the_older_taken(
    engine: Install,
    training: Training,
    elsewhere: Callable[[], None],
    settings: Any,
    tmp_path: Path,
) -> None:
    for step in (1, 2):
        saved(training, step)
    [harmed] = (tmp_path / "shared").glob("trainings/*/*/checkpoints/step-000002/*/state.json")
    harmed.write_text("state.json of 3")
    elsewhere()
    moved(training, settings.HOME)
    engine(RESUMES)
    assert run(training).status == "completed"
    said = [warning["message"] for warning in training.run_warnings]
    assert said[-1] == "step-000001"
    assert "step-000002 was not used" in said[0]
    assert "state.json" in said[0]
    assert training.checkpoints.get(step=2).set_aside


def test_what_no_row_stands_for_leaves_the_store_with_the_next_attempt(
    engine: Install, training: Training
) -> None:
    path = saved(training, 1)
    Checkpoint.objects.all().delete()
    shutil.rmtree(path)
    engine("ended(9)")
    run(training)
    assert not store.has(path)


def test_a_model_that_is_not_there_fails_the_run_by_name(
    engine: Install, training: Training, elsewhere: Callable[[], None]
) -> None:
    store.discard(training.model.folder)
    elsewhere()
    engine("ended(9)")
    assert run(training).status == "failed"
    assert f"models/{training.model.pk} is not in the store" in (training.error_message or "")


def test_a_store_that_is_away_while_it_fetches_has_the_run_wait(
    engine: Install, training: Training, elsewhere: Callable[[], None], switch: Switch
) -> None:
    elsewhere()
    switch.away = True
    engine("ended(9)")
    for _ in range(3):
        assert run(training).status == "pending"
    assert run(training).status == "failed"
    assert "cannot be reached" in (training.error_message or "")


def test_a_worker_that_cannot_reach_the_store_begins_nothing(
    training: Training, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "_rows", [training.pk])
    keep("default")
    switch.away = True
    assert "no route to host" in fleet.refusal()
    assert supervisor.run_next("worker") == []
    switch.away = False
    assert fleet.refusal() == ""


@pytest.fixture
def fetching(
    engine: Install,
    training: Training,
    elsewhere: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> threading.Thread:
    """The thread of a worker whose training is still being fetched, and will be for a minute."""
    elsewhere()
    engine("ended(9)")
    going = threading.Event()

    def slow(path: Path, go_on: Callable[[], None], **options: Any) -> None:
        going.set()
        remote.rest(60, go_on)

    monkeypatch.setattr(recorder, "RENEW_EVERY", 0.1)
    monkeypatch.setattr(store, "fetch", slow)
    thread = in_thread(lambda: supervisor.run(str(training.pk), "worker"))
    assert going.wait(30)
    return thread


def test_a_stop_while_it_fetches_stops_it(training: Training, fetching: threading.Thread) -> None:
    assert Training.objects.request_stop(training.pk)
    fetching.join(30)
    assert not fetching.is_alive()
    training.refresh_from_db()
    assert (training.status, training.error_message) == ("stopped", None)


def test_a_run_that_was_taken_over_while_it_fetches_is_left_alone(
    training: Training, fetching: threading.Thread
) -> None:
    Training.objects.filter(pk=training.pk).update(attempt=2)
    fetching.join(30)
    assert not fetching.is_alive()
    training.refresh_from_db()
    assert (training.status, training.attempt) == ("running", 2)


def test_members_of_a_sweep_have_uploads_of_their_own(
    engine: Install, training: Training, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nudge, "run", lambda *_: None)
    training.delete()
    asked = Asked({"architecture": "standard", "layer": 1}, {"seed": [1, 2]})
    source = a_tokenization()
    made = sweeps.members(asked, source)
    sweep, _ = sweeps.start(name="seeds", source=source, asked=asked, made=made)
    first, second = sweep.trainings.order_by("name")
    engine("checkpoint(5, 0)\ncheckpoint(6, 1)\nended(9, whose=0)\nuntil('go')\nended(9, whose=1)")
    thread = in_thread(lambda: supervisor.run_next("worker"))

    def over() -> bool:
        return Training.objects.filter(sweep=sweep, status="completed").count() == 1

    wait_for(over, "one to be free while the other goes on")
    for run in (first, second):
        run.folder.mkdir(exist_ok=True)
        (run.folder / "go").touch()
    thread.join(30)
    for run in (first, second):
        run.refresh_from_db()
        assert run.status == "completed"
        assert store.has(run.sae.folder)
        assert store.has(Path(run.checkpoints.get().path))


def test_a_drained_worker_hands_over_once_the_checkpoint_is_up(
    engine: Install, training: Training, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nudge, "run", lambda *_: None)
    engine("checkpoint(5)\nuntil('never')")
    switch.may_send.clear()
    ending = threading.Event()
    monkeypatch.setattr(fleet, "draining", ending)
    thread = in_thread(lambda: supervisor.run(str(training.pk), "worker"))
    wait_for((training.attempt_folder(1) / "checkpoints" / "step-000005").exists, "it")
    ending.set()
    said = "The worker leaves"
    wait_for(lambda: said in logs.tail(training.log_of(1)), "the wish to be passed on")
    training.refresh_from_db()
    assert training.status == "running"
    switch.may_send.set()
    thread.join(30)
    training.refresh_from_db()
    assert (training.status, steps(training)) == ("pending", [5])


def test_a_deleted_training_leaves_the_store(engine: Install, training: Training) -> None:
    engine("checkpoint(5)\nended(9)")
    run(training)
    Training.objects.request_delete(training.pk)
    wishes.discard(training.pk)
    assert not Training.objects.filter(pk=training.pk).exists()
    assert store.children(training.folder.parent) == []


def test_a_deletion_waits_for_a_store_that_is_away(
    engine: Install, training: Training, switch: Switch
) -> None:
    engine("ended(9)")
    run(training)
    Training.objects.request_delete(training.pk)
    switch.away = True
    wishes.discard(training.pk)
    assert Training.objects.to_discard().filter(pk=training.pk).exists()
    switch.away = False
    wishes.discard(training.pk)
    assert store.children(training.folder.parent) == []
