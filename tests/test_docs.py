"""What the documents name is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(("page", "least"), [("screens.md", 50), ("api.md", 20)])
def test_every_test_that_a_page_names_exists(page: str, least: int) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    named = re.findall(r"`(\w+/[\w/]+\.py)::(\w+)`", text)
    assert len(named) > least
    missing = []
    for file, function in named:
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        if function not in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}:
            missing.append(f"{file}::{function}")
    assert not missing


def test_every_picture_in_the_documents_is_there() -> None:
    for document in (ROOT / "README.md", ROOT / "docs" / "screens.md"):
        text = document.read_text(encoding="utf-8")
        pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
        assert pictures
        for picture in pictures:
            assert (document.parent / picture).is_file(), picture
