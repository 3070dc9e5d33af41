"""GGUF files: their header in milliseconds, and their conversion to a Hugging Face folder, once."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from .folder import ModelError, ModelFolder

_ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3": "Gemma3ForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "mistral": "MistralForCausalLM",
    "starcoder2": "Starcoder2ForCausalLM",
}
# Types of header values by number, as `struct` names them; 8 is a string, 9 an array.
_SCALARS = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


def inspect_gguf(file: Path) -> ModelFolder:
    """Facts of the model in a GGUF file, from its header alone. Raises `ModelError`."""
    header = _header(file)
    name = str(header.get("general.architecture", "unknown"))
    try:
        return ModelFolder(
            architecture=_ARCHITECTURES.get(name, name),
            d_model=int(header[f"{name}.embedding_length"]),
            n_layers=int(header[f"{name}.block_count"]),
            context_length=int(header[f"{name}.context_length"]),
            vocab_size=int(header.get(f"{name}.vocab_size", header["tokenizer.ggml.tokens"])),
            dtype="float32",
            has_bos="tokenizer.ggml.bos_token_id" in header,
        )
    except KeyError as error:
        raise ModelError(f"The header of {file.name} lacks {error}.") from error


def convert_gguf(source: Path, out: Path, progress: Callable[[float], None]) -> None:
    """Write the model in `source` to `out` as float32 safetensors with configuration and tokenizer.

    `progress` gets shares from 0 to 1. `out` appears whole or not at all. Raises `ModelError`.
    """
    inspect_gguf(source)
    temporary = out.with_name(out.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        _convert(source, temporary, progress)
    except (ValueError, KeyError, NotImplementedError, ImportError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise ModelError(f"{source.name} cannot be converted: {error}") from error
    shutil.rmtree(out, ignore_errors=True)
    temporary.rename(out)
    progress(1.0)


def _convert(source: Path, out: Path, progress: Callable[[float], None]) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    progress(0.0)
    tokenizer = AutoTokenizer.from_pretrained(**where)
    progress(0.1)
    dequantized = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    progress(0.7)
    # A fresh model has forgotten that it was quantized, and so can be saved.
    config = dequantized.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    model.load_state_dict(dequantized.state_dict(), assign=True)
    model.tie_weights()
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    for file in out.iterdir():
        file.chmod(0o644)
    progress(0.95)


def _header(file: Path) -> dict[str, Any]:
    """Key-value pairs of the header; of an array only its length is kept."""
    try:
        with file.open("rb") as handle:
            if handle.read(4) != b"GGUF":
                raise ModelError(f"{file.name} is not a GGUF file.")
            version, _, pairs = struct.unpack("<IQQ", handle.read(20))
            if version not in (2, 3):
                raise ModelError(f"{file.name} is GGUF version {version}; 2 and 3 can be read.")
            return {_string(handle): _value(handle) for _ in range(pairs)}
    except (struct.error, UnicodeDecodeError, KeyError) as error:
        raise ModelError(f"The header of {file.name} is damaged.") from error
    except OSError as error:
        raise ModelError(f"{file.name} cannot be read: {error.strerror}.") from error


def _value(handle: BinaryIO) -> Any:
    (kind,) = struct.unpack("<I", handle.read(4))
    if kind == _STRING:
        return _string(handle)
    if kind == _ARRAY:
        return _skip_array(handle)
    return _scalar(handle, kind)


def _scalar(handle: BinaryIO, kind: int) -> Any:
    layout = "<" + _SCALARS[kind]
    return struct.unpack(layout, handle.read(struct.calcsize(layout)))[0]


def _string(handle: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", handle.read(8))
    return handle.read(length).decode("utf-8")


def _skip_array(handle: BinaryIO) -> int:
    kind, length = struct.unpack("<IQ", handle.read(12))
    if kind in _SCALARS:
        handle.seek(length * struct.calcsize("<" + _SCALARS[kind]), 1)
        return int(length)
    for _ in range(length):
        if kind == _ARRAY:
            _skip_array(handle)
        else:
            (size,) = struct.unpack("<Q", handle.read(8))
            handle.seek(size, 1)
    return int(length)
