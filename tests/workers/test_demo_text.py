"""The demo's text: enough of it, without tables and tests, and the same every time."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from workers.catalog import demo_text


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("demo") / "text.jsonl"
    demo_text.write(file, lambda share, note: None)
    return file


def test_standard_library_is_text_enough_and_not_too_much(text: Path) -> None:
    # 3.9 characters a token with the demo's tokenizer.
    assert 8_000_000 < text.stat().st_size < 20_000_000


def test_every_document_is_one_json_object_of_some_length(text: Path) -> None:
    documents = [json.loads(line)["text"] for line in text.open(encoding="utf-8")]
    assert len(documents) > 400
    assert all(len(document) >= 200 for document in documents)
    assert len(set(documents)) == len(documents)


def test_same_python_writes_the_same_text(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = tmp_path / "again.jsonl"
    monkeypatch.setattr(sys, "last_type", ValueError, raising=False)
    demo_text.write(again, lambda share, note: None)
    assert again.read_bytes() == text.read_bytes()


def test_text_has_reference_compiled_docstrings_and_source(text: Path) -> None:
    whole = text.read_text(encoding="utf-8")
    assert 'The \\"assert\\" statement' in whole
    assert "builtins.sorted" in whole
    assert "class OrderedDict" in whole
    assert "class TestCase_" not in whole
