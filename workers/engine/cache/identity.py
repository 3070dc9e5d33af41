"""What stored activations are a function of: where any of it differs, they are others."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import xxhash

FORMAT = 1
_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Identity:
    """`held` is the number format of what is stored, `computed` that of the forward pass.

    `group_contexts` go through the model together. `machine` names what computes: the kind of
    processor, its threads and the libraries all may change the last bits of a product.
    """

    model: str
    tokens: str
    hook: str
    layer: int
    held: str
    computed: str
    group_contexts: int
    machine: str
    format: int = FORMAT

    @property
    def id(self) -> str:
        """The name of the entry's folder."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def model_digest(folder: Path) -> str:
    """xxh3 over the contents of a model's configuration and weights, as fast as they are read."""
    hasher = xxhash.xxh3_128()
    for path in [folder / "config.json", *sorted(folder.glob("*.safetensors"))]:
        hasher.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(_AT_ONCE):
                hasher.update(block)
    return hasher.hexdigest()
