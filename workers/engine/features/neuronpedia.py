"""A feature table as files that Neuronpedia takes: `upload.json`, and batches of latents.

No torch here, and never more than a batch of latents in memory.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from .neuronpedia_format import (
    MOST_FEATURES,
    BatchFile,
    FeatureBatch,
    ModelId,
    SourceSetName,
    Upload,
)
from .table import Feature, FeatureTable

UPLOAD = "upload.json"
# Stands for a token that has no text by itself, and for a zero byte, which a database refuses.
_NO_TEXT = "�"
# What a model is called there and nowhere on the hub.
_CALLED = {"gpt2": "gpt2-small"}
Body = TypeVar("Body", bound=BaseModel)


class NotAccepted(Exception):
    """Neuronpedia would refuse it; the message is a sentence."""


@dataclass(frozen=True)
class Target:
    """Where on Neuronpedia the latents are to appear: the source of a layer, in a source set."""

    model_id: str
    source_set: str
    layer: int
    layers: int
    model_name: str
    model_url: str | None = None
    description: str = ""

    @property
    def source(self) -> str:
        return f"{self.layer}-{self.source_set}"

    @property
    def model(self) -> dict[str, Any]:
        about = {"displayName": self.model_name[:64], "url": self.model_url}
        return {"id": self.model_id, "layers": self.layers} | about

    @property
    def set(self) -> dict[str, Any]:
        about = {"description": self.description[:128], "url": None}
        return {"name": self.source_set, "modelId": self.model_id} | about


def write_upload(features: FeatureTable, target: Target, folder: Path) -> Upload:
    """Fill an empty folder; what `upload.json` says.

    Raises `NotAccepted`, `UnreadableTable` and `OSError`; then the folder is to be thrown away.
    """
    uploadable = (_feature(feature) for feature in features.features())
    batches = _batches(filter(None, uploadable), target, folder)
    if not batches:
        raise NotAccepted("None of its latents fired, so there is nothing to upload.")
    told = {
        "model": target.model,
        "sourceSet": target.set,
        "source": target.source,
        "features": sum(batch.features for batch in batches),
        "latents": features.about["latents"],
        "tokens": features.about["tokens"],
        "batches": [batch.model_dump() for batch in batches],
    }
    path = folder / UPLOAD
    path.write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return read(path, Upload)


def read(path: Path, kind: type[Body]) -> Body:
    """What a file holds, if Neuronpedia would take it. Raises `NotAccepted`, `OSError`."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        where = f"{path.name}, {place}" if place else path.name
        raise NotAccepted(f"Neuronpedia would refuse {where}: {first['msg']}.") from error


def check_names(target: Target) -> None:
    """Raises `NotAccepted` where it has no models or source sets that are called so."""
    if not _is(ModelId, target.model_id):
        raise NotAccepted(
            f"Neuronpedia has no model ids like {target.model_id!r}: they are 2 to 32 small "
            "letters, digits, single hyphens and periods, and begin with a letter."
        )
    if not _is(SourceSetName, target.source_set):
        raise NotAccepted(
            f"Neuronpedia has no source sets called {target.source_set!r}: a name is small "
            "letters, digits and single hyphens, begins with a letter, and is not neurons."
        )


def usual_model_id(name: str) -> str:
    """What Neuronpedia is likely to call a model of this name: its last part, in small letters."""
    last = name.rstrip("/").rpartition("/")[2].lower()
    return _CALLED.get(last, _plain(last, "."))


def usual_source_set(name: str) -> str:
    """A name as one of a source set."""
    return _plain(name.lower())


def _plain(text: str, also: str = "") -> str:
    """Letters, digits and single hyphens (or what else may stand there), a letter first."""
    words = re.sub(rf"[^a-z0-9{also}]+", "-", text)
    return re.sub(rf"([-{also}])[-{also}]+", r"\1", words).lstrip("-.0123456789").rstrip("-.")


def _is(kind: Any, name: str) -> bool:
    try:
        TypeAdapter(kind).validate_python(name)
    except ValidationError:
        return False
    return True


def _batches(features: Iterator[dict[str, Any]], target: Target, folder: Path) -> list[BatchFile]:
    """Write them one after the other."""
    found: list[BatchFile] = []
    while some := list(islice(features, MOST_FEATURES)):
        path = folder / f"batch-{len(found)}.json"
        body = {"modelId": target.model_id, "source": target.source, "features": some}
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        path.write_text(text + "\n", encoding="utf-8")
        read(path, FeatureBatch)
        found.append(_described(path, len(some)))
    return found


def _described(path: Path, features: int) -> BatchFile:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return BatchFile(file=path.name, features=features, bytes=len(content), sha256=digest)


def _feature(feature: Feature) -> dict[str, Any] | None:
    """None where no example is left: an activation may be too small for what keeps it."""
    activations = [
        {"tokens": [_word(word) for word in example["tokens"]], "values": example["values"]}
        for example in feature.examples
        if max(example["values"]) > 0
    ]
    if not activations:
        return None
    return {
        "index": feature.id,
        "density": feature.frequency,
        "topLogits": _logits(feature.promotes),
        "bottomLogits": _logits(feature.suppresses),
        "activations": activations,
    }


def _logits(effects: Iterable[tuple[str, float]]) -> list[dict[str, Any]]:
    return [{"token": _word(word), "value": value} for word, value in effects]


def _word(word: str) -> str:
    return word.replace("\0", _NO_TEXT) or _NO_TEXT
