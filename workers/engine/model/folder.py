"""What a model folder holds, read from its JSON files and headers without loading weights."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
# The same fact under the names that the configurations of different families use.
_D_MODEL = ("hidden_size", "n_embd", "d_model", "dim")
_N_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_CONTEXT = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")


class ModelError(Exception):
    """A model cannot be used; the message is a sentence for the researcher."""


@dataclass(frozen=True)
class ModelFolder:
    """Facts of a language model. `context_length` is the most positions it can take."""

    architecture: str
    d_model: int
    n_layers: int
    context_length: int
    vocab_size: int
    dtype: str
    has_bos: bool


def inspect(folder: Path) -> ModelFolder:
    """Facts of the Hugging Face model in `folder`.

    Raises `ModelError` where it is no such folder, holds only pickled weights, or a weight file is
    missing or cut short.
    """
    config = _config(folder)
    text: dict[str, Any] = {**config, **config.get("text_config", {})}
    _check_weights(folder)
    architectures = config.get("architectures") or [config.get("model_type", "unknown")]
    return ModelFolder(
        architecture=str(architectures[0]),
        d_model=_number(text, _D_MODEL, "its width"),
        n_layers=_number(text, _N_LAYERS, "its number of layers"),
        context_length=_number(text, _CONTEXT, "its context length"),
        vocab_size=_number(text, ("vocab_size",), "its vocabulary size"),
        dtype=str(text.get("dtype") or text.get("torch_dtype") or "float32"),
        has_bos=_has_bos(folder, text),
    )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, `{}` where there is no such file. Raises `ModelError` if it is broken."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ModelError(f"{path.name} of the model cannot be read: {error}.") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path.name} of the model is not a JSON object.")
    return value


def _config(folder: Path) -> dict[str, Any]:
    config = read_json(folder / "config.json")
    if not config:
        raise ModelError(f"There is no Hugging Face model in {folder}: config.json is missing.")
    return config


def _number(config: dict[str, Any], names: tuple[str, ...], meaning: str) -> int:
    value = next((config[n] for n in names if isinstance(config.get(n), int)), None)
    if value is None:
        raise ModelError(f"The model's config.json does not say {meaning}.")
    return int(value)


def _check_weights(folder: Path) -> None:
    index = read_json(folder / "model.safetensors.index.json")
    names = sorted(set(index.get("weight_map", {}).values()))
    files = [folder / name for name in names] or sorted(folder.glob("*.safetensors"))
    if not files:
        if any(next(folder.glob(pattern), None) for pattern in _PICKLED):
            raise ModelError(
                "The model has only pickled weights, which can run any code when they are opened; "
                "choose a version of it with safetensors files."
            )
        raise ModelError(f"There are no safetensors files in {folder}.")
    for file in files:
        _check_whole(file)


def _check_whole(file: Path) -> None:
    """A safetensors file says in its header how long it must be; a broken download is shorter."""
    if not file.is_file():
        raise ModelError(f"The weight file {file.name} is missing.")
    size = file.stat().st_size
    try:
        with file.open("rb") as handle:
            (length,) = struct.unpack("<Q", handle.read(8))
            header = json.loads(handle.read(length)) if length < size else {}
        end = max(t["data_offsets"][1] for n, t in header.items() if n != "__metadata__")
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"The weight file {file.name} is damaged; fetch it again.") from error
    if size != 8 + length + end:
        raise ModelError(f"The weight file {file.name} is cut short; fetch it again.")


def _has_bos(folder: Path, config: dict[str, Any]) -> bool:
    """The tokenizer's own word counts; some tokenizers leave it to their class's default."""
    tokenizer = read_json(folder / "tokenizer_config.json")
    if "bos_token" in tokenizer:
        return tokenizer["bos_token"] is not None
    if read_json(folder / "special_tokens_map.json").get("bos_token"):
        return True
    return bool(tokenizer) and config.get("bos_token_id") is not None
