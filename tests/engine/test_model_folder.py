"""Facts of a model without its weights, and models that are refused."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.engine.conftest import CONTEXT, FAMILIES, LAYERS, VOCABULARY, WIDTH
from workers.engine.model import ModelError, ModelFolder, inspect, inspect_gguf


@pytest.mark.parametrize("family", FAMILIES)
def test_facts_are_read_whatever_the_family_calls_them(
    families: dict[str, Path], family: str
) -> None:
    found = inspect(families[family])
    assert found.architecture.lower().startswith(family.replace("_", ""))
    assert (found.d_model, found.n_layers, found.vocab_size) == (WIDTH, LAYERS, VOCABULARY)
    assert found.context_length >= CONTEXT
    assert found.has_bos is True


@pytest.fixture
def copy(model_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(model_folder, tmp_path / "model")


def test_pickled_weights_are_refused(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ModelError, match="only pickled weights"):
        inspect(copy)


def test_a_weight_file_that_is_cut_short_is_refused(copy: Path) -> None:
    with (copy / "model.safetensors").open("r+b") as file:
        file.truncate(file.seek(0, 2) - 1)
    with pytest.raises(ModelError, match="cut short"):
        inspect(copy)


def test_a_missing_shard_is_named(copy: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"model-00001-of-00002\.safetensors is missing"):
        inspect(copy)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json is missing"):
        inspect(tmp_path)


def gguf(path: Path, pairs: dict[str, Any], version: int = 3) -> Path:
    """A GGUF header with strings, 32-bit numbers and an array of strings."""
    data = b"GGUF" + struct.pack("<IQQ", version, 0, len(pairs))
    for key, value in pairs.items():
        data += text(key)
        if isinstance(value, str):
            data += struct.pack("<I", 8) + text(value)
        elif isinstance(value, list):
            data += struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
        else:
            data += struct.pack("<II", 4, value)
    path.write_bytes(data)
    return path


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


PAIRS = {
    "general.architecture": "llama",
    "tokenizer.ggml.tokens": ["a", "bc", "d"],
    "tokenizer.ggml.bos_token_id": 1,
    "llama.embedding_length": 576,
    "llama.block_count": 30,
    "llama.context_length": 2048,
}


def test_a_gguf_header_gives_the_facts(tmp_path: Path) -> None:
    assert inspect_gguf(gguf(tmp_path / "m.gguf", PAIRS)) == ModelFolder(
        "LlamaForCausalLM", 576, 30, 2048, 3, "float32", True
    )


def test_broken_gguf_files_are_refused_with_a_sentence(tmp_path: Path) -> None:
    whole = gguf(tmp_path / "m.gguf", PAIRS)
    with pytest.raises(ModelError, match="version 9"):
        inspect_gguf(gguf(tmp_path / "new.gguf", PAIRS, version=9))
    (tmp_path / "cut.gguf").write_bytes(whole.read_bytes()[:60])
    with pytest.raises(ModelError, match="damaged"):
        inspect_gguf(tmp_path / "cut.gguf")
    (tmp_path / "other.gguf").write_bytes(b"PK\x03\x04")
    with pytest.raises(ModelError, match="not a GGUF file"):
        inspect_gguf(tmp_path / "other.gguf")
    with pytest.raises(ModelError, match="cannot be read"):
        inspect_gguf(tmp_path / "none.gguf")
