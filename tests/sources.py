"""Sources for the catalog: rows that are yet to be prepared, and the files they point at."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from tests.environment import HOME
from tests.tiny import write_model, write_text
from trainings.models import Dataset, LanguageModel, Tokenization


@cache
def _tiny_model() -> Path:
    """Made once: every test copies it."""
    return write_model(Path(mkdtemp(dir=HOME)) / "tiny")


def model_folder(roots: Path) -> Path:
    """The tiny model inside a folder that may be read."""
    return Path(shutil.copytree(_tiny_model(), roots / "tiny"))


def a_model(location: Path | str, source: str = "folder", **columns: Any) -> LanguageModel:
    return LanguageModel.objects.create(
        name="tiny", source=source, location=str(location), **columns
    )


def a_dataset(location: Path | str, source: str = "file", **columns: Any) -> Dataset:
    return Dataset.objects.create(name="words", source=source, location=str(location), **columns)


def a_ready_pair(roots: Path) -> tuple[LanguageModel, Dataset]:
    """A model and a text that a tokenization can be made of, with their files."""
    model = a_model("ready", status="ready", d_model=32, n_layers=4)
    shutil.copytree(_tiny_model(), model.folder)
    dataset = a_dataset(write_text(roots / "topics.txt"), status="ready")
    return model, dataset


def a_waiting_tokenization(model: LanguageModel, dataset: Dataset, **columns: Any) -> Tokenization:
    return Tokenization.objects.create(
        model=model, dataset=dataset, **{"context_length": 64, **columns}
    )
