"""Jobs with a store: what they read is fetched, what they make is there before its row says so."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.rows import a_rehearsal, an_sae
from tests.sources import a_model, a_ready_pair, a_waiting_tokenization, model_folder
from tests.workers.test_rehearsal import CONFIG, Install, child, measured
from trainings import catalog as wishes
from trainings import nudge, store
from trainings.models import Rehearsal, Sae, SaeJob
from trainings.store import remote
from workers import rehearsal, sae_jobs
from workers.catalog import prepare

__all__ = ["child"]
# The package shows the function of this name.
making = sys.modules[prepare.__module__]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def shared(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    settings.HOME, settings.STORE = tmp_path / "ada", f"file://{tmp_path / 'shared'}"
    (tmp_path / "shared").mkdir()
    monkeypatch.setattr(remote, "PAUSES", ())
    for name in ("prepare", "run", "sae_job"):
        monkeypatch.setattr(nudge, name, lambda *_: None)
    return tmp_path / "shared"


def put_away(*folders: Path) -> None:
    """They were made on another host, which has put them into the store."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "file").write_text("content")
        store.put(folder)
        shutil.rmtree(folder)


def prepared(row: Any) -> Any:
    prepare(row._meta.model_name, str(row.pk), "a worker")
    row.refresh_from_db()
    return row


def test_a_prepared_model_is_in_the_store(shared: Path, roots: Path) -> None:
    model = prepared(a_model(model_folder(roots)))
    assert (model.status, model.error_message) == ("ready", "")
    assert store.has(model.folder)


def test_what_was_made_waits_for_a_store_that_is_away(
    shared: Path, roots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, put = shared.with_name("away"), store.put

    def unmounted_at_first(*args: Any) -> None:
        if not shared.exists():
            away.rename(shared)
            put(*args)
            return
        shared.rename(away)
        put(*args)

    monkeypatch.setattr(making, "PAUSE", 0.0)
    monkeypatch.setattr(store, "put", unmounted_at_first)
    model = prepared(a_model(model_folder(roots)))
    assert (model.status, model.error_message) == ("ready", "")
    assert store.has(model.folder)


def test_a_model_that_cannot_be_put_there_is_not_ready(
    shared: Path, roots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "PATIENCE", 0.0)
    source = model_folder(roots)
    shutil.rmtree(shared)
    shared.write_text("no folder")
    model = prepared(a_model(source))
    assert model.status == "failed"
    assert "The store" in model.error_message


def test_a_tokenization_fetches_the_model_it_is_made_with(shared: Path, roots: Path) -> None:
    waiting = a_waiting_tokenization(*a_ready_pair(roots))
    store.put(waiting.model.folder)
    shutil.rmtree(waiting.model.folder)
    made = prepared(waiting)
    assert (made.status, made.error_message) == ("ready", "")
    assert store.has(made.folder)


def test_a_row_that_is_removed_leaves_the_store(shared: Path, roots: Path) -> None:
    from tests.conftest import wait_for

    model = prepared(a_model(model_folder(roots)))
    folder = model.folder
    assert wishes.remove(model) == ""
    wait_for(lambda: not store.has(folder), "it to leave the store")


@pytest.fixture
def sae(shared: Path, settings: Any) -> Sae:
    """Made on another host, with all that a job over it reads."""
    found = an_sae(Path(settings.HOME, "trainings", "x", "attempt-1", "sae"))
    put_away(found.folder, found.text.folder, found.text.model.folder)
    return found


def run(job: SaeJob) -> SaeJob:
    assert sae_jobs.run(str(job.pk), "worker")
    job.refresh_from_db()
    return job


SAYS = f"print({json.dumps(json.dumps({'event': 'done', 'result': {}}))}, flush=True)\n"


def test_a_job_fetches_what_it_reads_and_puts_what_it_makes(sae: Sae, child: Install) -> None:
    child(
        "import pathlib\n"
        "spec = json.loads(pathlib.Path(sys.argv[-1], 'job.json').read_text())\n"
        "for name in ('sae_path', 'model_path', 'tokens_path'):\n"
        "    assert pathlib.Path(spec[name], 'file').is_file(), name\n"
        "pathlib.Path(spec['sae_path']).with_name('features.sqlite').write_text('table')\n" + SAYS
    )
    job = run(SaeJob.objects.ask(sae, SaeJob.Kind.FEATURES, sae.text))
    assert (job.status, job.error_message) == ("done", "")
    assert store.has(sae.features_path)


def test_an_export_is_put_there(sae: Sae, child: Install) -> None:
    child(
        "import pathlib\n"
        "spec = json.loads(pathlib.Path(sys.argv[-1], 'job.json').read_text())\n"
        "out = pathlib.Path(spec['out'])\n"
        "out.mkdir(parents=True)\n(out / 'cfg.json').write_text('{}')\n" + SAYS
    )
    job = run(SaeJob.objects.ask(sae, SaeJob.Kind.EXPORT, sae.text, format="saelens"))
    assert (job.status, job.error_message) == ("done", "")
    assert store.has(sae.export_path("saelens"))


def test_an_sae_that_is_nowhere_is_said(sae: Sae, child: Install) -> None:
    store.discard(sae.folder)
    child(SAYS)
    job = run(SaeJob.objects.ask(sae, SaeJob.Kind.EVALUATE, sae.text))
    assert (job.status, "not there any more" in job.error_message) == ("failed", True)


def test_a_harmed_text_fails_the_job_by_name(sae: Sae, child: Install, shared: Path) -> None:
    [file] = (shared / "tokenizations").rglob("file")
    file.write_text("flipped")
    child(SAYS)
    job = run(SaeJob.objects.ask(sae, SaeJob.Kind.EVALUATE, sae.text))
    assert (job.status, "/file in the store" in job.error_message) == ("failed", True)


def test_a_rehearsal_fetches_what_it_reads(sae: Sae, child: Install) -> None:
    child(measured())
    row: Rehearsal = a_rehearsal(CONFIG)
    assert rehearsal.run(str(row.pk), "worker")
    row.refresh_from_db()
    assert row.status == "done", row.error_message
    assert (row.tokenization.folder / "file").is_file()
