"""The formats an SAE can be written in, by the names that commands and rows have for them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from . import plain, saelens, sparsify
from .refusal import CannotExport
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


def write_for_saelens(sae: SavedSae, folder: Path) -> tuple[Format, str]:
    """In SAELens's format where it has such an SAE; else plainly, and why. Raises `OSError`."""
    try:
        saelens.write(sae, folder)
    except CannotExport as refused:
        plain.write(sae, folder, refused.why)
        return Format.SAFETENSORS, refused.why
    return Format.SAELENS, ""


def place_of(format: Format, folder: Path) -> Path:
    """Where in a written folder the SAE lies: sparsify has a folder for the layer."""
    if format is Format.SPARSIFY:
        return next(path.parent for path in folder.glob(f"*/{sparsify.WEIGHTS}"))
    return folder
