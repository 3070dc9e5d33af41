"""A path given by a user is usable only inside the allowed roots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from trainings.sources import check_local_path


@pytest.fixture
def root(tmp_path: Path, settings: Any) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    settings.ALLOWED_ROOTS = [folder]
    return folder


def refusal(text: object) -> str:
    with pytest.raises(ValidationError) as caught:
        check_local_path(str(text))
    return str(caught.value.message)


def test_path_inside_a_root_is_resolved(root: Path) -> None:
    (root / "model").mkdir()
    (root / "alias").symlink_to(root / "model")
    assert check_local_path(f" {root}/alias ") == root / "model"


def test_root_itself_may_be_named(root: Path) -> None:
    assert check_local_path(str(root)) == root


def test_path_outside_is_refused_with_the_roots_and_the_variable(root: Path) -> None:
    message = refusal("/etc/passwd")
    assert str(root) in message
    assert "SAESTUDIO_ALLOWED_ROOTS" in message


@pytest.mark.parametrize("detour", ["../outside", "./../root/../outside"])
def test_dots_do_not_lead_out(root: Path, detour: str) -> None:
    (root.parent / "outside").mkdir()
    assert "outside the folders" in refusal(f"{root}/{detour}")


def test_link_does_not_lead_out(root: Path, tmp_path: Path) -> None:
    (root / "way").symlink_to(tmp_path)
    assert "outside the folders" in refusal(root / "way")


def test_folder_beside_a_root_with_its_name_as_prefix_is_outside(root: Path) -> None:
    beside = root.with_name("root-of-another")
    beside.mkdir()
    assert "outside the folders" in refusal(beside)


def test_answer_does_not_tell_what_exists_outside(root: Path) -> None:
    there, missing = refusal("/etc/passwd"), refusal("/etc/no-such-file")
    assert there.replace("passwd", "") == missing.replace("no-such-file", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model", "relative"),
        ("", "relative"),
        ("/a\0b", "not a usable path"),
        ("~nobody-here/model", "home of nobody"),
    ],
)
def test_unusable_path_is_refused(root: Path, text: str, expected: str) -> None:
    assert expected in refusal(text)


def test_missing_file_inside_a_root_is_said(root: Path) -> None:
    assert "does not exist" in refusal(root / "nothing")
