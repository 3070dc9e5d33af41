"""Checkpoints: whole, verified, and never unpickled.

step-000500/tensors.safetensors   weights, optimizer moments, counters
step-000500/state.json            numbers: step, data position, normalization, config's hash
step-000500/manifest.json         size and SHA-256 of the other two, written last
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

FORMAT = 1
_TENSORS, _STATE, _MANIFEST = "tensors.safetensors", "state.json", "manifest.json"


class CheckpointError(Exception):
    """A checkpoint cannot be used; the message says why."""


@dataclass(frozen=True)
class Saved:
    """`sha256` is that of the manifest, and so stands for every file."""

    path: Path
    bytes: int
    sha256: str
    seconds: float


def save(folder: Path, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> Saved:
    """Write `folder/step-NNNNNN`; it appears whole, on the disk, or not at all."""
    begun = time.perf_counter()
    final = folder / f"step-{step:06d}"
    temporary = final.with_name(final.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write_tensors(temporary / _TENSORS, tensors)
    write_json(temporary / _STATE, {"format": FORMAT, **state})
    files = {name: _described(temporary / name) for name in (_TENSORS, _STATE)}
    write_json(temporary / _MANIFEST, {"files": files})
    replace(temporary, final)
    digest = _sha256(final / _MANIFEST)
    size = sum(file.stat().st_size for file in final.iterdir())
    return Saved(final, size, digest, time.perf_counter() - begun)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and state of a checkpoint that verifies. Raises `CheckpointError` otherwise."""
    try:
        manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        for name in (_TENSORS, _STATE):
            if _described(path / name) != manifest["files"][name]:
                raise CheckpointError(f"{name} is not what the manifest says")
        state = json.loads((path / _STATE).read_text(encoding="utf-8"))
        tensors = load_file(path / _TENSORS)
    except FileNotFoundError as error:
        raise CheckpointError(f"{Path(error.filename or path).name} is missing") from error
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"it cannot be read ({error})") from error
    if state.get("format") != FORMAT:
        raise CheckpointError(f"its format is {state.get('format')}, not {FORMAT}")
    return tensors, state


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Safetensors on the disk. The library leaves mode 0600, which a web process cannot read."""
    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, path)
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


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _described(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
