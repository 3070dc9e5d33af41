"""A checkpoint is whole or it is not one."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from workers.engine import checkpoint
from workers.engine.checkpoint import CheckpointError


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return checkpoint.save(tmp_path, 500, {"a": torch.arange(64.0)}, {"step": 500}).path


def test_what_was_saved_is_loaded(saved: Path) -> None:
    tensors, state = checkpoint.load(saved)
    assert saved.name == "step-000500"
    assert torch.equal(tensors["a"], torch.arange(64.0))
    assert state["step"] == 500


def test_a_web_process_of_another_user_can_read_it(saved: Path) -> None:
    assert {stat.S_IMODE(file.stat().st_mode) for file in saved.iterdir()} == {0o644}
    assert len(list(saved.iterdir())) == 3


def flip(folder: Path) -> None:
    file = folder / "tensors.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def truncate(folder: Path) -> None:
    with (folder / "tensors.safetensors").open("r+b") as file:
        file.truncate(100)


def edit(folder: Path) -> None:
    file = folder / "state.json"
    file.write_text(file.read_text().replace("500", "600"))


def tear(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def garble(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")


def lose(folder: Path) -> None:
    (folder / "state.json").unlink()


@pytest.mark.parametrize("harm", [flip, truncate, edit, tear, garble, lose])
def test_a_harmed_checkpoint_is_refused(saved: Path, harm: Callable[[Path], None]) -> None:
    harm(saved)
    with pytest.raises(CheckpointError):
        checkpoint.load(saved)


def test_a_harmed_checkpoint_is_set_aside_under_a_name_of_its_own(saved: Path) -> None:
    checkpoint.set_aside(saved)
    again = checkpoint.save(saved.parent, 500, {"a": torch.zeros(1)}, {}).path
    assert checkpoint.set_aside(again) == saved.with_name("step-000500.harmed-2")
    assert checkpoint.set_aside(again) is None  # it is gone


def test_a_disk_that_gives_back_something_else_leaves_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(path: Path, tensors: dict[str, torch.Tensor]) -> None:
        save_file({name: value + 1 for name, value in tensors.items()}, path)

    monkeypatch.setattr(checkpoint, "write_tensors", write)
    with pytest.raises(CheckpointError, match="a came back from the disk changed"):
        checkpoint.save(tmp_path, 7, {"a": torch.zeros(3)}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_another_format_is_refused_and_not_called_harmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = checkpoint.FORMAT - 1
    with monkeypatch.context() as then:
        then.setattr(checkpoint, "FORMAT", older)
        path = checkpoint.save(tmp_path, 7, {"a": torch.zeros(1)}, {}).path
    with pytest.raises(CheckpointError, match=f"its format is {older}, not {older + 1}") as caught:
        checkpoint.load(path)
    assert type(caught.value) is CheckpointError


def test_what_a_killed_process_left_is_removed(saved: Path) -> None:
    (saved.parent / "step-000600.tmp").mkdir()
    checkpoint.remove_unfinished(saved.parent)
    assert [folder.name for folder in saved.parent.iterdir()] == ["step-000500"]


def test_a_write_that_is_cut_off_leaves_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_temporary: Path, _final: Path) -> None:
        raise OSError("no more power")

    monkeypatch.setattr(checkpoint, "replace", fail)
    with pytest.raises(OSError, match="no more power"):
        checkpoint.save(tmp_path, 7, {"a": torch.zeros(1)}, {})
    assert not (tmp_path / "step-000007").exists()
    monkeypatch.undo()
    assert checkpoint.save(tmp_path, 7, {"a": torch.zeros(1)}, {}).path.is_dir()


def test_the_folder_of_a_deleted_run_stays_gone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        checkpoint.save(tmp_path / "gone" / "checkpoints", 1, {"w": torch.ones(1)}, {})
    assert not (tmp_path / "gone").exists()
