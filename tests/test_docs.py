"""What the documents name is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCREENS = (ROOT / "docs" / "screens.md").read_text(encoding="utf-8")


def test_every_test_that_a_screen_names_exists() -> None:
    named = re.findall(r"`(\w+/[\w/]+\.py)::(\w+)`", SCREENS)
    assert len(named) > 50
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
