"""Texts of every kind are read as a stream, and what is wrong in them is said where it stands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from tests.sources import a_dataset
from trainings.models import Dataset
from workers.catalog import prepare
from workers.texts import TextError, Texts

TABLE = pa.table({"body": ["one", None, "  ", "two"], "n": [1, 2, 3, 4]})


def write_parquet(path: Path) -> None:
    parquet.write_table(TABLE, path)


def write_arrow_stream(path: Path) -> None:
    with ipc.new_stream(str(path), TABLE.schema) as out:
        out.write_table(TABLE)


def write_arrow_file(path: Path) -> None:
    with ipc.new_file(str(path), TABLE.schema) as out:
        out.write_table(TABLE)


def write_json_lines(path: Path) -> None:
    path.write_text('{"body": "one"}\n\n{"body": null}\n{"body": "two", "n": 1}\n')


KINDS: list[tuple[str, Callable[[Path], None]]] = [
    ("a.parquet", write_parquet),
    ("a.arrow", write_arrow_stream),
    ("b.arrow", write_arrow_file),
    ("a.jsonl", write_json_lines),
    ("a.json", write_json_lines),
]


def unsaved(path: Path, column: str = "body") -> Dataset:
    return Dataset(name="t", source="file", location=str(path), text_column=column)


@pytest.mark.parametrize(("name", "write"), KINDS)
def test_documents_come_in_order_without_the_empty_ones(
    roots: Path, name: str, write: Callable[[Path], None]
) -> None:
    write(roots / name)
    assert list(Texts(unsaved(roots / name))) == ["one", "two"]


@pytest.mark.parametrize(("name", "write"), KINDS)
def test_missing_column_is_said_with_those_there_are(
    roots: Path, name: str, write: Callable[[Path], None]
) -> None:
    write(roots / name)
    with pytest.raises(TextError, match=r"no column 'text'.*body"):
        list(Texts(unsaved(roots / name, "text")))


def test_blank_lines_part_the_documents_of_a_plain_text(roots: Path) -> None:
    (roots / "a.txt").write_text("one\nmore\n\n\ntwo\n")
    assert [text.split() for text in Texts(unsaved(roots / "a.txt"))] == [["one", "more"], ["two"]]


def test_endless_paragraph_is_cut_and_nothing_of_it_lost(
    roots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.texts._LONGEST_PARAGRAPH", 10)
    lines = [f"line {i}\n" for i in range(10)]
    (roots / "a.txt").write_text("".join(lines))
    found = list(Texts(unsaved(roots / "a.txt")))
    assert len(found) > 1
    assert "".join(found) == "".join(lines)


def test_a_text_of_one_line_is_cut_too(roots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.texts._LONGEST_PARAGRAPH", 10)
    (roots / "a.txt").write_text("word " * 20)
    found = list(Texts(unsaved(roots / "a.txt")))
    assert max(map(len, found)) <= 20
    assert "".join(found) == "word " * 20


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", b'{"body": "x"}\nnot json', "line 2"),
        ("a.json", b'["a", "b"]', "line 1"),
        ("a.jsonl", b"[" * 100_000, "line 1"),
        ("a.jsonl", b'{"body": "x"}\n{"body": "\\ud800"}', "line 2 .* half a character"),
        ("a.jsonl", b'{"body": 3}', "int and not text"),
        ("a.txt", b"\xff\xfe\xff", "cannot be read"),
        ("a.parquet", b"nonsense", "not a Parquet file"),
        ("a.arrow", b"nonsense", "not an Arrow file"),
        ("a.csv", b"body\nx", "not a text that can be read"),
    ],
)
def test_broken_text_is_refused_with_a_sentence(
    roots: Path, name: str, content: bytes, expected: str
) -> None:
    (roots / name).write_bytes(content)
    with pytest.raises(TextError, match=expected):
        list(Texts(unsaved(roots / name)))


@pytest.mark.parametrize(("name", "write"), KINDS)
def test_a_text_is_read_on_from_any_place(
    roots: Path, name: str, write: Callable[[Path], None]
) -> None:
    write(roots / name)
    begun, read = Texts(unsaved(roots / name)), []
    for text in begun:
        read.append(text)
        rest = Texts(unsaved(roots / name))
        rest.go_on(json.loads(json.dumps(begun.place())))
        assert [*read, *rest] == ["one", "two"]
        assert (rest.documents, rest.identity) == (2, begun.identity)


def test_a_file_that_has_changed_is_another_text(roots: Path) -> None:
    (roots / "a.txt").write_text("one")
    before = Texts(unsaved(roots / "a.txt")).identity
    (roots / "a.txt").write_text("one\n\ntwo")
    assert Texts(unsaved(roots / "a.txt")).identity != before


def test_file_outside_the_roots_is_not_read(roots: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("secret")
    (roots / "link.txt").symlink_to(tmp_path / "a.txt")
    with pytest.raises(TextError, match="outside"):
        list(Texts(unsaved(roots / "link.txt")))


@pytest.mark.django_db(transaction=True)
def test_dataset_in_a_file_gets_ready_with_its_number_of_documents(roots: Path) -> None:
    write_parquet(roots / "a.parquet")
    dataset: Any = a_dataset(roots / "a.parquet", text_column="body")
    prepare("dataset", str(dataset.pk), "a worker")
    dataset.refresh_from_db()
    assert (dataset.status, dataset.n_documents) == ("ready", 2)
    assert dataset.size_bytes == (roots / "a.parquet").stat().st_size


@pytest.mark.django_db(transaction=True)
def test_empty_file_is_no_dataset(roots: Path) -> None:
    (roots / "a.txt").write_text("\n \n")
    dataset: Any = a_dataset(roots / "a.txt")
    prepare("dataset", str(dataset.pk), "a worker")
    dataset.refresh_from_db()
    assert (dataset.status, "holds no text" in dataset.error_message) == ("failed", True)
