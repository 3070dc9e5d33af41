"""Packing, the BOS policy, and tokenizations that cannot be used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from workers.engine.tokens import TokenizeError, TokenManifest, Tokens, tokenize, tokenizer_digest

BOS, EOS = 1, 2


def pack(folder: Path, out: Path, texts: list[str], bos: str = "auto") -> TokenManifest:
    return tokenize(texts, folder, out, 8, bos, lambda done: None)  # type: ignore[arg-type]


def test_documents_are_packed_with_bos_first_and_an_end_between(
    model_folder: Path, tmp_path: Path
) -> None:
    manifest = pack(model_folder, tmp_path / "t", ["w0 w1 w2 w3", "w4 w5 w6 w7"])
    rows = Tokens.open(tmp_path / "t").ids
    assert rows[0].tolist() == [BOS, 3, 4, 5, 6, EOS, 7, 8]
    assert rows[1].tolist()[:4] == [BOS, 9, 10, EOS]
    assert (manifest.n_contexts, manifest.n_tokens, manifest.last_length) == (2, 12, 4)
    assert manifest.n_usable == 10


@pytest.mark.parametrize(("bos", "first"), [("always", BOS), ("never", 3)])
def test_the_policy_decides_whether_contexts_begin_with_bos(
    model_folder: Path, tmp_path: Path, bos: str, first: int
) -> None:
    manifest = pack(model_folder, tmp_path / "t", ["w0 w1 w2 w3"], bos)
    assert Tokens.open(tmp_path / "t").ids[0, 0] == first
    assert manifest.bos is (bos == "always")


def test_neither_bos_nor_padding_is_usable(model_folder: Path, tmp_path: Path) -> None:
    manifest = pack(model_folder, tmp_path / "t", ["w0 w1 <s> w2 w3 w4 w5 w6 w7"])
    tokens = Tokens.open(tmp_path / "t")
    usable = tokens.usable(np.arange(2))
    assert usable[0].tolist() == [False, True, True, False, True, True, True, True]
    assert usable[1].tolist() == [False, True, True, True] + 4 * [False]
    assert usable.sum() == manifest.n_usable


def test_progress_counts_the_tokens_written(model_folder: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    manifest = tokenize(["w0 " * 50] * 3, model_folder, tmp_path / "t", 8, "auto", seen.append)
    assert seen == sorted(seen)
    assert 0 < seen[-1] <= manifest.n_tokens


@pytest.mark.parametrize("texts", [[], ["", "  "]])
def test_an_empty_text_is_refused_and_leaves_nothing(
    model_folder: Path, tmp_path: Path, texts: list[str]
) -> None:
    with pytest.raises(TokenizeError, match="The text is empty"):
        pack(model_folder, tmp_path / "t", texts)
    assert list(tmp_path.iterdir()) == []


def test_a_context_longer_than_the_model_takes_is_refused(
    model_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(TokenizeError, match="at most 256 tokens at once; 257"):
        tokenize(["w0"], model_folder, tmp_path / "t", 257, "auto", lambda done: None)


def test_always_needs_a_tokenizer_with_bos(model_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model_folder, tmp_path / "model")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"bos_token": None}))
    with pytest.raises(TokenizeError, match="has no BOS token"):
        pack(folder, tmp_path / "t", ["w0 w1"], "always")
    assert pack(folder, tmp_path / "t", ["w0 w1"], "auto").bos is False


def test_a_tokenization_without_manifest_or_cut_short_is_refused(
    model_folder: Path, tmp_path: Path
) -> None:
    pack(model_folder, tmp_path / "t", ["w0 w1"])
    with (tmp_path / "t" / "tokens.bin").open("r+b") as file:
        file.truncate(3)
    with pytest.raises(TokenizeError, match="cut short"):
        Tokens.open(tmp_path / "t")
    (tmp_path / "t" / "manifest.json").unlink()
    with pytest.raises(TokenizeError, match="incomplete"):
        Tokens.open(tmp_path / "t")


def test_models_with_the_same_tokenizer_share_its_digest(families: dict[str, Path]) -> None:
    assert tokenizer_digest(families["llama"]) == tokenizer_digest(families["gpt2"])
