"""A disk that is really full: the run fails with the reason, loses nothing, and goes on later."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine.test_kill_and_resume import LAST, SMALL, Engine, newest_first, result
from workers.engine import checkpoint
from workers.engine.config import RunSpec

MakeSpec = Callable[..., RunSpec]
FULL = "The disk is full; free some space and resume the training."
MEGABYTE = 2**20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB of its own, where this process may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)],
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode:
        pytest.skip(f"mounting is not permitted: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """A file that takes all but so many bytes."""
    filler = disk / "filler"
    filler.write_bytes(bytes(free(disk) - leave))
    return filler


def free(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


@pytest.fixture
def spec(make_spec: MakeSpec) -> Callable[[Path], RunSpec]:
    """A run whose checkpoints take 400 kB each, going on from what lies in a folder."""
    return lambda folder: make_spec("standard", newest_first(folder), latent_dim=512, **SMALL)


def to_the_end(spec: Callable[[Path], RunSpec], folder: Path) -> dict[str, bytes]:
    """Train, or resume, what lies in a folder; what then lies there."""
    engine = Engine(spec(folder), folder / LAST)
    assert engine.end() == 0
    assert engine.events[-1]["event"] == "completed", engine.events[-1]
    return result(folder)


def test_a_checkpoint_that_finds_no_room_leaves_the_one_before_and_the_run_goes_on_later(
    spec: Callable[[Path], RunSpec], tmp_path: Path, disk: Path
) -> None:
    run = disk / "run"
    first = Engine(spec(run), run / "1", crash_at="checkpoint.begun:3")
    assert first.end() == -signal.SIGKILL
    newest = newest_first(run)[0]
    size = sum(file.stat().st_size for file in newest.iterdir())
    filler = fill(disk, leave=size // 2)

    full = Engine(spec(run), run / "2")
    assert full.end() == 0
    assert full.events[-1] == {"event": "failed", "error": FULL}
    assert newest_first(run)[0] == newest
    checkpoint.load(newest)
    assert list((run / "2" / "checkpoints").iterdir()) == []  # nothing half-written takes room

    filler.unlink()
    assert to_the_end(spec, run) == to_the_end(spec, tmp_path / "whole")


@pytest.mark.parametrize("left", [1000, 60_000], ids=["no room at all", "room for a part"])
def test_an_export_that_finds_no_room_leaves_the_last_checkpoint_to_export_from_later(
    spec: Callable[[Path], RunSpec], tmp_path: Path, disk: Path, left: int
) -> None:
    run = disk / "run"
    first = Engine(spec(run), run / "1", crash_at="export.written")
    assert first.end() == -signal.SIGKILL
    assert newest_first(run)[0].name == "step-000047"
    for unfinished in (run / "1").glob("sae.tmp/*"):
        unfinished.unlink()
    filler = fill(disk, leave=left)

    full = Engine(spec(run), run / "2")
    assert full.end() == 0
    assert full.events[-1] == {"event": "failed", "error": FULL}
    assert not (run / "2" / "sae").exists()
    assert not (run / "2" / "sae.tmp").exists()

    subprocess.run(["mount", "-o", "remount,size=32m", str(disk)], check=True)
    assert filler.exists()  # a larger disk, not a freed one
    assert to_the_end(spec, run) == to_the_end(spec, tmp_path / "whole")
