"""How large a model is, from the headers of its weight files."""

from __future__ import annotations

import json
import math
import re
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .folder import read_json

# `model.layers.7.mlp...`, `h.7.attn...`: the first number in a name is that of its block.
_BLOCK = re.compile(r"\.(\d+)\.")
_HEADS = ("lm_head", "embed_out")  # what makes logits of the last block's output
# The inner width of an MLP under the names of different families.
_INNER = ("intermediate_size", "n_inner", "ffn_dim")


@dataclass(frozen=True)
class ModelSize:
    """Parameters of the whole, of what is kept up to the deepest layer, and of the largest block.

    `inner` is the width of the MLPs, `file_bytes` what the weights take in the files.
    """

    parameters: int
    kept: int
    inner: int
    file_bytes: int
    block: int


def model_size(folder: Path, d_model: int, deepest_layer: int) -> ModelSize:
    """Of a folder that `inspect` has accepted; without its output head, which is never loaded."""
    parameters = kept = file_bytes = 0
    blocks: Counter[int] = Counter()
    for file in folder.glob("*.safetensors"):
        for name, numbers, size in _tensors(file):
            if name.startswith(_HEADS):
                continue
            parameters, file_bytes = parameters + numbers, file_bytes + size
            block = _BLOCK.search(f".{name}")
            kept += numbers if block is None or int(block[1]) <= deepest_layer else 0
            if block:
                blocks[int(block[1])] += numbers
    config = read_json(folder / "config.json")
    text = {**config, **config.get("text_config", {})}
    inner = next((text[n] for n in _INNER if isinstance(text.get(n), int)), 4 * d_model)
    return ModelSize(parameters, kept, inner, file_bytes, max(blocks.values(), default=0))


def _tensors(file: Path) -> list[tuple[str, int, int]]:
    """Names, numbers of elements, and bytes."""
    with file.open("rb") as handle:
        (length,) = struct.unpack("<Q", handle.read(8))
        header = json.loads(handle.read(length))
    header.pop("__metadata__", None)
    return [
        (name, math.prod(tensor["shape"]), tensor["data_offsets"][1] - tensor["data_offsets"][0])
        for name, tensor in header.items()
    ]
