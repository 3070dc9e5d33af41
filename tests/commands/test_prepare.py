"""Models, texts and tokenizations from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.sources import a_ready_pair, model_folder
from trainings import nudge
from trainings.models import Dataset, LanguageModel, Tokenization

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def roots(home: Path, settings: Any) -> Path:
    folder = home / "imports"
    folder.mkdir()
    settings.ALLOWED_ROOTS = [folder]
    return folder


def refusal(*words: str) -> CommandError:
    with pytest.raises(CommandError) as caught:
        call_command(*words)
    return caught.value


def test_add_model_makes_a_local_folder_ready(
    roots: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("add_model", str(model_folder(roots)), "--name", "mine")
    model = LanguageModel.objects.get()
    assert (model.name, model.source, model.status) == ("mine", "folder", "ready")
    assert f"{model.pk}  mine  LlamaForCausalLM, 4 layers of width 32" in capsys.readouterr().out


def test_relative_path_is_seen_from_the_current_folder(
    roots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_folder(roots)
    monkeypatch.chdir(roots)
    call_command("add_model", "./tiny")
    assert LanguageModel.objects.get().location == str(folder)


def test_adding_the_same_again_changes_nothing(roots: Path) -> None:
    folder = str(model_folder(roots))
    call_command("add_model", folder)
    call_command("add_model", folder)
    assert LanguageModel.objects.get().attempt == 1


def test_adding_what_failed_tries_again(roots: Path) -> None:
    assert "does not exist" in str(refusal("add_model", str(roots / "tiny")))
    (roots / "tiny").mkdir()
    assert refusal("add_model", str(roots / "tiny")).returncode == 1
    model_folder(roots / "tiny")
    for file in (roots / "tiny" / "tiny").iterdir():
        file.rename(roots / "tiny" / file.name)
    call_command("add_model", str(roots / "tiny"))
    assert LanguageModel.objects.get().status == "ready"


def test_path_outside_the_roots_is_refused_before_it_is_registered(roots: Path) -> None:
    assert refusal("add_model", "/etc").returncode == 2
    assert LanguageModel.objects.count() == 0


def test_no_wait_leaves_the_work_to_a_worker(roots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(nudge, "prepare", told.append)
    call_command("add_model", "owner/name", "--no-wait")
    model = LanguageModel.objects.get()
    assert (model.source, model.status, told) == ("hub", "pending", [model])


def test_add_dataset_reads_a_local_file(roots: Path) -> None:
    (roots / "a.jsonl").write_text('{"body": "one"}\n{"body": "two"}\n')
    call_command("add_dataset", str(roots / "a.jsonl"), "--text-column", "body")
    dataset = Dataset.objects.get()
    assert (dataset.name, dataset.status, dataset.n_documents) == ("a.jsonl", "ready", 2)


def test_wrong_column_can_be_corrected_by_the_next_try(roots: Path) -> None:
    file = roots / "a.jsonl"
    file.write_text('{"body": "one"}\n')
    assert "no column 'text'" in str(refusal("add_dataset", str(file)))
    call_command("add_dataset", str(file), "--text-column", "body")
    assert Dataset.objects.get().status == "ready"
    assert refusal("add_dataset", str(file), "--text-column", "text").returncode == 2


def test_dataset_needs_a_place(home: Path) -> None:
    assert refusal("add_dataset").returncode == 2


def test_tokenize_cuts_a_text_for_a_model(roots: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_ready_pair(roots)
    call_command("tokenize", "--model", "tiny", "--dataset", "words", "--context-length", "32")
    row = Tokenization.objects.get()
    assert (row.status, row.context_length) == ("ready", 32)
    assert f"{row.n_tokens:,} tokens in {row.n_contexts:,} contexts" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "dataset", "expected"),
    [
        ("tinny", "words", "Did you mean 'tiny'?"),
        ("tiny", "00000000-0000-0000-0000-000000000000", "There is no dataset"),
        ("tiny", "words", "is not ready, it is pending"),
    ],
)
def test_tokenize_says_what_is_missing(
    roots: Path, model: str, dataset: str, expected: str
) -> None:
    a_ready_pair(roots)
    Dataset.objects.update(status="pending")
    error = refusal("tokenize", "--model", model, "--dataset", dataset)
    assert (expected in str(error), error.returncode) == (True, 2)


def test_bad_value_is_refused_with_its_field(roots: Path) -> None:
    a_ready_pair(roots)
    words = ("--model", "tiny", "--dataset", "words", "--context-length", "3")
    assert "context_length" in str(refusal("tokenize", *words))
