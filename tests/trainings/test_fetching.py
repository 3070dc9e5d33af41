"""What a page or a download needs of the store comes in the background, and the answer says so."""

from __future__ import annotations

import html
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from tests.conftest import wait_for
from tests.engine.test_features import a_feature
from tests.people import somebody
from tests.rows import a_training, an_sae
from trainings import fetching, store
from trainings.models import Checkpoint, Sae, SaeJob, Training
from trainings.store import Away, remote
from workers.engine.features import table

pytestmark = pytest.mark.django_db


@pytest.fixture
def shared(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    settings.HOME, settings.STORE = tmp_path / "ada", f"file://{tmp_path / 'shared'}"
    (tmp_path / "shared").mkdir()
    monkeypatch.setattr(fetching, "_asked", {})
    monkeypatch.setattr(fetching, "GRACE", 20.0)
    return tmp_path / "shared"


@pytest.fixture
def sae(shared: Path, settings: Any) -> Sae:
    """One that another host has trained and looked at."""
    found = an_sae(Path(settings.HOME, "trainings", "x", "attempt-1", "sae"))
    (found.folder / "cfg.json").write_text('{"width": 64}')
    table.write(found.features_path, {"tokens": 1000, "contexts": 10}, map(a_feature, range(3)))
    for path in (found.folder, found.features_path):
        store.put(path)
    shutil.rmtree(Path(settings.HOME))
    return found


@pytest.fixture
def client() -> Client:
    found = Client()
    found.force_login(somebody())
    return found


def test_a_download_fetches_it(client: Client, sae: Sae) -> None:
    answer = client.get(f"/api/v1/saes/{sae.pk}/files/cfg.json")
    assert answer.status_code == 200
    assert b"".join(answer.streaming_content) == b'{"width": 64}'  # type: ignore[attr-defined]
    assert client.get(f"/api/v1/saes/{sae.pk}/features").json()["count"] == 3
    assert client.get(f"/saes/{sae.pk}/features/1").status_code == 200


def test_a_download_that_takes_longer_says_when_to_come_again(
    client: Client, sae: Sae, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on, fetch = threading.Event(), store.fetch

    def slow(*args: Any, **options: Any) -> None:
        may_go_on.wait(30)
        fetch(*args, **options)

    monkeypatch.setattr(store, "fetch", slow)
    monkeypatch.setattr(fetching, "GRACE", 0.0)
    address = f"/api/v1/saes/{sae.pk}/files"
    answer = client.get(address)
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    [error] = answer.json()["errors"]
    assert (error["field"], "being fetched" in error["message"]) == ("store", True)
    page = client.get(f"/saes/{sae.pk}")
    assert "The table of its latents is not here yet" in page.content.decode()
    assert "load delay:2s" in page.content.decode()
    assert "being fetched" in client.get(f"/saes/{sae.pk}/features/1").content.decode()
    may_go_on.set()
    wait_for(lambda: client.get(address).status_code == 200, "the files")
    assert client.get(address).json() == [{"name": "cfg.json", "size_bytes": 13}]


def test_a_store_that_is_away_is_said(
    client: Client, sae: Sae, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: Any, **options: Any) -> None:
        raise Away("The store cannot be reached.")

    monkeypatch.setattr(store, "fetch", away)
    answer = client.get(f"/api/v1/saes/{sae.pk}/files/cfg.json")
    assert answer.status_code == 503
    assert (
        "cannot be fetched from the store: The store cannot be"
        in answer.json()["errors"][0]["message"]
    )
    page = html.unescape(client.get(f"/saes/{sae.pk}").content.decode())
    assert page.count("It cannot be fetched from the store") == 2


def test_what_is_nowhere_is_not_found(client: Client, sae: Sae) -> None:
    for path in (sae.folder, sae.features_path):
        store.discard(path)
    assert client.get(f"/api/v1/saes/{sae.pk}/files/cfg.json").status_code == 404
    assert client.get(f"/api/v1/saes/{sae.pk}/features.sqlite").status_code == 404
    assert "The folder is not there any more" in client.get(f"/saes/{sae.pk}").content.decode()


def test_an_export_is_offered_wherever_it_was_written(
    client: Client, sae: Sae, settings: Any
) -> None:
    folder = sae.export_path("sparsify")
    folder.mkdir(parents=True)
    (folder / "sae.safetensors").write_bytes(b"weights")
    store.put(folder)
    shutil.rmtree(folder)
    job = SaeJob.objects.create(
        sae=sae, kind="export", tokenization=sae.text, format="sparsify", key="k", status="done"
    )
    job.result = {
        "files": {"sae.safetensors": {"bytes": 7}},
        "read_by": "us",
        "max_difference": 0.0,
        "digest": "0" * 64,
    }
    job.save()
    address = f"/api/v1/saes/{sae.pk}/exports/sparsify/sae.safetensors"
    assert address in client.get(f"/saes/{sae.pk}").content.decode()
    assert b"".join(client.get(address).streaming_content) == b"weights"  # type: ignore[attr-defined]


def test_the_log_of_another_host_is_shown_once_the_attempt_is_over(
    client: Client, shared: Path, settings: Any
) -> None:
    run = a_training(status="running", attempt=1)
    assert "lies on the host of its worker" in client.get(f"/trainings/{run.pk}").content.decode()
    run.log_path.parent.mkdir(parents=True)
    line = {"time": "2026-01-01T00:00:00", "level": "INFO", "message": "it spoke"}
    run.log_path.write_text(json.dumps(line) + "\n")
    store.put(run.log_path)
    run.log_path.unlink()
    fetching._asked.clear()
    Training.objects.filter(pk=run.pk).update(status="completed")
    assert "it spoke" in client.get(f"/trainings/{run.pk}").content.decode()


def test_readiness_and_doctor_look_at_the_store(
    client: Client, shared: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainings.management.commands import doctor

    monkeypatch.setattr(remote, "PAUSES", ())
    Path(settings.HOME).mkdir()
    assert client.get("/readyz").json()["store"] == "ok"
    assert [finding.state for finding in doctor._store()] == ["ok"]
    fetching._asked.clear()
    shutil.rmtree(shared)
    shared.write_text("no folder")
    assert client.get("/readyz").json()["store"] == "unreachable"
    [finding] = doctor._store()
    assert (finding.state, "SAESTUDIO_STORE" in finding.advice) == ("failed", True)


def test_prune_drops_copies_that_are_in_the_store_and_nothing_else(
    shared: Path, settings: Any
) -> None:
    import os

    from django.core.management import call_command

    run = a_training()
    folders = {name: Path(settings.HOME, "models", name) for name in ("old", "new", "changed")}
    for folder in (*folders.values(), run.model.folder):
        folder.mkdir(parents=True)
        (folder / "file").write_text("content")
        store.put(folder)
        if folder != folders["new"]:
            os.utime(Path(settings.HOME, "store", "models", f"{folder.name}.json"), (0, 0))
    (folders["changed"] / "file").write_text("another content")
    Training.objects.filter(pk=run.pk).update(status="running")
    call_command("prune", "--unused", "30", "--yes")
    assert not folders["old"].exists()
    assert all(folder.exists() for folder in (folders["new"], folders["changed"], run.model.folder))
    store.fetch(folders["old"])
    assert (folders["old"] / "file").read_text() == "content"


def test_prune_drops_checkpoints_that_another_host_has_thinned(shared: Path, settings: Any) -> None:
    from django.core.management import call_command

    run = a_training(attempt=1, status="stopped")
    paths = [run.attempt_folder(1) / "checkpoints" / f"step-{step:06d}" for step in (1, 2, 3)]
    for path in paths:
        path.mkdir(parents=True)
        (path / "manifest.json").write_text("{}")
    Checkpoint.objects.create(
        training=run, attempt=1, step=2, path=str(paths[1]), size_bytes=1, sha256="x"
    )
    call_command("prune", "--unused", "30", "--yes")
    # The last one waits for the store still.
    assert [path.exists() for path in paths] == [False, True, True]


def test_prune_finds_orphans_in_the_store(shared: Path, settings: Any) -> None:
    from django.core.management import call_command

    run = a_training()
    for folder in (run.model.folder, Path(settings.HOME, "models", "nobodys")):
        folder.mkdir(parents=True)
        (folder / "file").write_text("content")
        store.put(folder)
        shutil.rmtree(folder)
    call_command("prune", "--orphans", "--yes")
    assert store.children(Path(settings.HOME, "models")) == [str(run.model.pk)]


def test_a_studio_from_before_fills_its_store(
    shared: Path, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from django.core.management import call_command

    run = a_training()
    path = run.attempt_folder(1) / "checkpoints" / "step-000001"
    for folder in (run.model.folder, path):
        folder.mkdir(parents=True)
        (folder / "file").write_text("content")
    Checkpoint.objects.create(
        training=run, attempt=1, step=1, path=str(path), size_bytes=1, sha256="x"
    )
    call_command("fill_store", "--json")
    assert len(json.loads(capsys.readouterr().out)["in_store"]) == 2
    assert store.has(path)
    assert store.has(run.model.folder)


def test_filling_the_store_leaves_what_another_host_has_put_there(
    shared: Path, settings: Any
) -> None:
    from django.core.management import call_command

    folder = a_training().model.folder
    folder.mkdir(parents=True)
    for content in ("old", "new"):
        (folder / "file").write_text(content)
        store.put(folder)
    (folder / "file").write_text("old")
    call_command("fill_store")
    shutil.rmtree(folder)
    store.fetch(folder)
    assert (folder / "file").read_text() == "new"
