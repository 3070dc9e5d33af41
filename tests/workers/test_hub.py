"""Models and datasets from a hub: pinned, only safe files, and every refusal a sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.sources import a_dataset, a_model, model_folder
from workers import hub as hub_module
from workers.catalog import prepare
from workers.texts import Texts

from .fake_hub import COMMIT, FakeHub

pytestmark = pytest.mark.django_db(transaction=True)


def prepared(row: Any, **hooks: Any) -> Any:
    prepare(row._meta.model_name, str(row.pk), "a worker", **hooks)
    row.refresh_from_db()
    return row


@pytest.fixture
def served(hub: FakeHub, roots: Path) -> Path:
    """`owner/tiny` on the hub; its folder."""
    folder = hub.repository("models", "owner/tiny")
    folder.parent.mkdir(parents=True)
    shutil.move(model_folder(roots), folder)
    return folder


@pytest.fixture
def words(hub: FakeHub, home: Path) -> Path:
    """`owner/words` on the hub; its one file."""
    folder = hub.repository("datasets", "owner/words")
    folder.mkdir(parents=True)
    file = folder / "train.jsonl"
    rows = [{"text": f"w1 w{i}", "n": i} for i in range(20)]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return file


def test_model_is_fetched_and_pinned_to_its_commit(served: Path) -> None:
    model = prepared(a_model("owner/tiny", source="hub", revision="main"))
    assert (model.status, model.revision, model.d_model) == ("ready", COMMIT, 32)
    original = (served / "model.safetensors").read_bytes()
    assert (model.folder / "model.safetensors").read_bytes() == original


def test_progress_of_a_download_counts_bytes(served: Path) -> None:
    shares: list[float] = []
    model = a_model("owner/tiny", source="hub")
    prepared(model, on_progress=lambda share, note: shares.append(share))
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


def test_only_safe_files_are_fetched(served: Path, hub: FakeHub) -> None:
    for name in ("pytorch_model.bin", "modeling.py", "model.fp16.safetensors", "README.md"):
        (served / name).write_bytes(b"x")
    model = prepared(a_model("owner/tiny", source="hub"))
    names = {path.name for path in model.folder.iterdir()}
    assert set(hub.fetched) == names
    assert names == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_repository_with_pickled_weights_only_is_refused(served: Path, hub: FakeHub) -> None:
    (served / "model.safetensors").rename(served / "pytorch_model.bin")
    model = prepared(a_model("owner/tiny", source="hub"))
    assert (model.status, "pickled" in model.error_message) == ("failed", True)
    assert hub.fetched == []


@pytest.mark.parametrize(
    ("location", "revision", "expected"),
    [
        ("owner/nothing", "", "There is no model 'owner/nothing'"),
        ("../etc", "", "There is no model '../etc'"),
        ("owner/tiny", "v9", "has no revision 'v9'"),
    ],
)
def test_what_the_hub_does_not_have_is_said(
    served: Path, location: str, revision: str, expected: str
) -> None:
    model = prepared(a_model(location, source="hub", revision=revision))
    assert (model.status, expected in model.error_message) == ("failed", True)


def test_gated_model_says_how_to_get_in(served: Path, hub: FakeHub) -> None:
    hub.gated.add("owner/tiny")
    model = prepared(a_model("owner/tiny", source="hub"))
    assert "accept its licence" in model.error_message
    assert "HF_TOKEN" in model.error_message


def test_missing_network_is_said(home: Path) -> None:
    model = prepared(a_model("owner/tiny", source="hub"))
    assert (model.status, "cannot be reached" in model.error_message) == ("failed", True)


def test_model_larger_than_the_disk_is_refused_before_it_is_fetched(
    served: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(hub_module.shutil, "disk_usage", lambda path: free)
    model = prepared(a_model("owner/tiny", source="hub"))
    assert (model.status, "GB are free" in model.error_message) == ("failed", True)
    assert hub.fetched == []


def test_same_commit_is_not_kept_twice(served: Path) -> None:
    prepared(a_model("owner/tiny", source="hub", revision="main"))
    twin = prepared(a_model("owner/tiny", source="hub"))
    assert (twin.status, "registered already" in twin.error_message) == ("failed", True)


def test_dataset_is_pinned_and_its_rows_are_streamed(words: Path) -> None:
    dataset = prepared(a_dataset("owner/words", source="hub"))
    assert (dataset.status, dataset.revision) == ("ready", COMMIT)
    assert list(Texts(dataset)) == [f"w1 w{i}" for i in range(20)]


def test_a_stream_goes_on_where_it_was_broken_off(words: Path) -> None:
    dataset = prepared(a_dataset("owner/words", source="hub"))
    begun, read = Texts(dataset), []
    for text in begun:
        read.append(text)
        if len(read) in (1, 7, 20):
            rest = Texts(dataset)
            rest.go_on(json.loads(json.dumps(begun.place())))
            assert [*read, *rest] == [f"w1 w{i}" for i in range(20)]
            assert rest.documents == 20


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"text_column": "body"}, "no column 'body'"),
        ({"text_column": "n"}, "holds no text"),
        ({"split": "test"}, "train"),
        ({"subset": "french"}, "default"),
    ],
)
def test_wrong_place_in_a_dataset_is_said_with_what_there_is(
    words: Path, columns: dict[str, str], expected: str
) -> None:
    dataset = prepared(a_dataset("owner/words", source="hub", **columns))
    assert (dataset.status, expected in dataset.error_message) == ("failed", True)


def test_hub_id_never_reads_a_folder_of_that_name(
    hub: FakeHub, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = home / "owner" / "private"
    local.mkdir(parents=True)
    (local / "train.jsonl").write_text('{"text": "secret"}')
    monkeypatch.chdir(home)
    dataset = prepared(a_dataset("owner/private", source="hub"))
    assert "There is no dataset" in dataset.error_message
