"""Models, datasets and tokenizations: register, prepare again, delete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.rows import a_tokenization, a_training
from trainings.models import Dataset, LanguageModel, Tokenization

pytestmark = pytest.mark.django_db
Nudges = list[tuple[str, Any]]


def test_model_is_registered_by_its_id_and_prepared(client: Client, nudges: Nudges) -> None:
    client.post("/models", {"source": "hub", "location": "EleutherAI/pythia-70m"})
    row = LanguageModel.objects.get()
    assert (row.name, row.status) == ("pythia-70m", "pending")
    assert nudges == [("prepare", row)]


@pytest.mark.parametrize(
    "location",
    ["https://example.org/model", "../../etc", "a/b/c", "name with blanks", "/etc/passwd"],
)
def test_hub_id_is_only_an_id(client: Client, nudges: Nudges, location: str) -> None:
    answer = client.post("/models", {"source": "hub", "location": location})
    assert answer.status_code == 422
    assert nudges == []


def test_folder_outside_the_allowed_roots_is_refused(client: Client, nudges: Nudges) -> None:
    answer = client.post("/models", {"source": "folder", "location": "/etc"})
    assert answer.status_code == 422
    assert "SAESTUDIO_ALLOWED_ROOTS" in answer.content.decode()
    assert nudges == []


def test_folder_inside_an_allowed_root_is_registered(
    client: Client, nudges: Nudges, settings: Any, tmp_path: Path
) -> None:
    settings.ALLOWED_ROOTS = [tmp_path]
    (tmp_path / "mine").mkdir()
    client.post("/models", {"source": "folder", "location": f"{tmp_path}/mine"})
    assert LanguageModel.objects.get().name == "mine"


def test_same_model_twice_is_refused_with_a_sentence(client: Client, nudges: Nudges) -> None:
    once = {"source": "hub", "location": "EleutherAI/pythia-70m"}
    client.post("/models", once)
    answer = client.post("/models", once)
    assert answer.status_code == 422
    assert "already exists" in answer.content.decode()
    assert LanguageModel.objects.count() == 1


def test_dataset_is_registered_and_prepared(client: Client, nudges: Nudges) -> None:
    sent = {"source": "hub", "location": "roneneldan/TinyStories", "split": "validation"}
    client.post("/datasets", {**sent, "text_column": "text"})
    row = Dataset.objects.get()
    assert (row.name, row.split) == ("TinyStories", "validation")
    assert nudges == [("prepare", row)]


def test_demo_sources_are_not_offered(client: Client) -> None:
    for address in ("/models", "/datasets"):
        page = client.get(address).content.decode()
        assert 'value="package"' not in page
        assert 'value="demo"' not in page


def test_tokenization_is_queued(client: Client, nudges: Nudges) -> None:
    known = a_tokenization()
    sent = {"dataset": known.dataset_id, "model": known.model_id, "context_length": 128}
    client.post(reverse("tokenize"), {**sent, "bos": "auto", "max_tokens": 0})
    row = Tokenization.objects.get(context_length=128)
    assert nudges == [("prepare", row)]


def test_context_longer_than_the_model_reads_is_refused(client: Client, nudges: Nudges) -> None:
    known = a_tokenization()
    LanguageModel.objects.update(context_length=512)
    sent = {"dataset": known.dataset_id, "model": known.model_id, "context_length": 1024}
    answer = client.post(reverse("tokenize"), {**sent, "bos": "auto", "max_tokens": 0})
    assert answer.status_code == 422
    assert "reads at most 512 tokens" in answer.content.decode()


def test_failed_preparation_is_tried_again(client: Client, nudges: Nudges) -> None:
    row = Dataset.objects.create(name="d", source="hub", status="failed", error_message="no")
    client.post(reverse("prepare_again", args=["datasets", row.pk]))
    row.refresh_from_db()
    assert (row.status, row.error_message) == ("pending", "")
    assert nudges == [("prepare", row)]


def test_what_is_ready_is_not_prepared_again(client: Client, nudges: Nudges) -> None:
    row = Dataset.objects.create(name="d", source="hub", status="ready")
    client.post(reverse("prepare_again", args=["datasets", row.pk]))
    row.refresh_from_db()
    assert (row.status, nudges) == ("ready", [])


def test_model_in_use_stays_and_its_users_are_named(client: Client) -> None:
    run = a_training(name="the user of it")
    address = reverse("delete_row", args=["models", run.model_id])
    page = client.get(address).content.decode()
    assert "cannot be deleted" in page
    assert "the user of it" in page
    client.post(address)
    assert LanguageModel.objects.filter(pk=run.model_id).exists()


def test_unused_model_goes_with_its_files(
    client: Client, home: Path, django_capture_on_commit_callbacks: Any
) -> None:
    row = LanguageModel.objects.create(name="m", source="hub", location="a/b", status="ready")
    row.folder.mkdir(parents=True)
    with django_capture_on_commit_callbacks(execute=True):
        client.post(reverse("delete_row", args=["models", row.pk]))
    assert not LanguageModel.objects.exists()
    assert not row.folder.exists()


def test_row_that_a_job_holds_is_not_deleted(client: Client) -> None:
    row = LanguageModel.objects.create(name="m", source="hub", location="a/b", status="running")
    answer = client.post(reverse("delete_row", args=["models", row.pk]), follow=True)
    assert LanguageModel.objects.exists()
    assert "is being prepared" in answer.content.decode()


def test_unknown_kind_is_not_found(client: Client) -> None:
    row = a_tokenization()
    assert client.get(f"/things/{row.pk}/delete").status_code == 404


def test_preparing_rows_poll_only_while_something_moves(client: Client) -> None:
    row = a_tokenization(status="running")
    Tokenization.objects.update(progress=0.43, progress_note="tokenizing")
    page = client.get(reverse("preparing")).content.decode()
    assert "43 %" in page
    assert 'hx-trigger="every 2s"' in page
    Tokenization.objects.filter(pk=row.pk).update(status="failed", error_message="No text.")
    page = client.get(reverse("preparing")).content.decode()
    assert "No text." in page
    assert "hx-trigger" not in page
