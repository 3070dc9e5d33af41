"""The formats an SAE can be written in, by the names that commands and rows have for them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from . import plain, saelens, sparsify
from .sae import SavedSae


class Format(StrEnum):
    SAELENS = "saelens"
    SPARSIFY = "sparsify"
    SAFETENSORS = "safetensors"


_WRITERS = {
    Format.SAELENS: saelens.write,
    Format.SPARSIFY: sparsify.write,
    Format.SAFETENSORS: plain.write,
}


def write(sae: SavedSae, format: Format, folder: Path) -> Path:
    """Write a folder; where in it the SAE lies. Raises `CannotExport`, `OSError`."""
    return _WRITERS[format](sae, folder)


def place_of(format: Format, folder: Path) -> Path:
    """Where in a written folder the SAE lies: sparsify has a folder for the layer."""
    if format is Format.SPARSIFY:
        return next(path.parent for path in folder.glob(f"*/{sparsify.WEIGHTS}"))
    return folder
