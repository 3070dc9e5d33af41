"""Checkpoints: whole, verified, and never unpickled.

step-000500/tensors.safetensors   weights, optimizer moments, counters
step-000500/state.json            numbers: step, data position, normalization, config's hash
step-000500/manifest.json         size and SHA-256 of the other two, written last

A folder whose name ends in `.tmp` was never finished; one that ends in `.harmed` did not verify.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from . import crash, machine

# 2: a position counts chunks of groups of contexts, where it counted chunks of contexts.
FORMAT = 2
_UNFINISHED, _HARMED = ".tmp", ".harmed"
_TENSORS, _STATE, _MANIFEST = "tensors.safetensors", "state.json", "manifest.json"


class CheckpointError(Exception):
    """A checkpoint cannot be used; the message says why."""


class HarmedCheckpoint(CheckpointError):
    """Its files are not what was written: torn, truncated, changed or missing."""


@dataclass(frozen=True)
class Saved:
    """`sha256` is that of the manifest, and so stands for every file."""

    path: Path
    bytes: int
    sha256: str
    seconds: float


def save(folder: Path, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> Saved:
    """Write `folder/step-NNNNNN` and read it back; it appears whole, on the disk, or not at all.

    Raises `OSError` where it cannot be written, `CheckpointError` where the disk gives back
    something else than was written. Either way nothing of it stays behind.
    """
    begun = time.perf_counter()
    final = folder / f"step-{step:06d}"
    temporary = final.with_name(final.name + _UNFINISHED)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        # Not its parents: the folder of a run that was deleted meanwhile stays gone.
        folder.mkdir(exist_ok=True)
        temporary.mkdir()
        _require_room(temporary, tensors)
        crash.point("checkpoint.begun")
        write_tensors(temporary / _TENSORS, tensors)
        crash.point("checkpoint.tensors")
        write_json(temporary / _STATE, {"format": FORMAT, **state})
        crash.point("checkpoint.state")
        files = {name: described(temporary / name) for name in (_TENSORS, _STATE)}
        write_json(temporary / _MANIFEST, {"files": files})
        crash.point("checkpoint.manifest")
        _compare(temporary, tensors)
        replace(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    crash.point("checkpoint.renamed")
    digest = _sha256(final / _MANIFEST)
    size = sum(file.stat().st_size for file in final.iterdir())
    return Saved(final, size, digest, time.perf_counter() - begun)


def _require_room(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Do not fill a disk with what will not fit: others may be writing to it, too."""
    wanted = sum(tensor.nbytes for tensor in tensors.values())
    if machine.free_bytes(folder) < wanted:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def load(
    path: Path, read: Callable[[Path], dict[str, Tensor]] = load_file, *, verified: bool = False
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and state of a checkpoint that verifies, which may have been found out before.

    `read` may take a part of the tensors. Raises `HarmedCheckpoint` where it does not verify,
    `CheckpointError` where its format is another.
    """
    try:
        if not verified:
            _verify(path)
        state = json.loads((path / _STATE).read_text(encoding="utf-8"))
        tensors = read(path / _TENSORS)
    except FileNotFoundError as error:
        raise HarmedCheckpoint(f"{Path(error.filename or path).name} is missing") from error
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise HarmedCheckpoint(f"it cannot be read ({error})") from error
    if state.get("format") != FORMAT:
        raise CheckpointError(f"its format is {state.get('format')}, not {FORMAT}")
    return tensors, state


def newest_first(folder: Path) -> list[Path]:
    """The finished checkpoints in a folder."""
    found = [path for path in folder.glob("step-*") if re.fullmatch(r"step-\d+", path.name)]
    return sorted(found, key=lambda path: -int(path.name.removeprefix("step-")))


def set_aside(path: Path) -> Path | None:
    """Rename a harmed checkpoint, so that nothing takes it for one; None where it is gone."""
    if not path.exists():
        return None
    names = (f"{path.name}{_HARMED}{'' if n == 1 else f'-{n}'}" for n in range(1, 1000))
    free = next(place for name in names if not (place := path.with_name(name)).exists())
    return path.rename(free)


def remove_unfinished(folder: Path) -> None:
    """Free what a killed process left of a checkpoint it was writing."""
    for left in folder.glob(f"step-*{_UNFINISHED}"):
        shutil.rmtree(left, ignore_errors=True)


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Safetensors on the disk. The library leaves mode 0600, which a web process cannot read.

    Raises `OSError` for what the disk refuses; the library has an error of its own for that.
    """
    try:
        save_file({n: value.detach().cpu().contiguous() for n, value in tensors.items()}, path)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
    path.chmod(0o644)
    _sync(path)


def write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, allow_nan=False), encoding="utf-8")
    path.chmod(0o644)
    _sync(path)


def replace(temporary: Path, final: Path) -> None:
    """Put a finished folder in its place with one rename."""
    _sync(temporary)
    if final.exists():
        shutil.rmtree(final)
    temporary.rename(final)
    _sync(final.parent)


def _verify(path: Path) -> None:
    """Raise `HarmedCheckpoint` unless the files are what the manifest says."""
    manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
    for name in (_TENSORS, _STATE):
        if described(path / name) != manifest["files"][name]:
            raise HarmedCheckpoint(f"{name} is not what the manifest says")


def _compare(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Raise `CheckpointError` unless the files verify and hold these very bytes."""
    try:
        _verify(folder)
        for name, value in tensors.items():
            # Opened for each: what was read of a mapped file counts as memory until it is closed.
            with safe_open(folder / _TENSORS, "pt") as file:
                found = file.get_tensor(name)
            if not torch.equal(_bytes(found), _bytes(value.detach().cpu())):
                raise CheckpointError(f"{name} came back from the disk changed")
    except (ValueError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"it cannot be read back ({error})") from error


def _bytes(value: Tensor) -> Tensor:
    return value.contiguous().reshape(-1).view(torch.uint8)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def described(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file as it lies on the disk."""
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
