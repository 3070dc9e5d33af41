"""Packing, the BOS policy, and tokenizations that cannot be used."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workers.engine.tokenize import Kept, tokenize, tokenize_on
from workers.engine.tokens import TokenizeError, TokenManifest, Tokens, tokenizer_digest

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


class Lines:
    """Documents that break off after some; a place is the number of those that were read."""

    def __init__(self, documents: list[str], break_after: int | None = None) -> None:
        self._documents, self._break_after = documents, break_after
        self._begin = self.read = 0

    def __iter__(self) -> Iterator[str]:
        self.read = self._begin
        for document in self._documents[self._begin :]:
            if self.read == self._break_after:
                raise ConnectionError("the network is gone")
            self.read += 1
            yield document

    def place(self) -> int:
        return self.read

    def go_on(self, place: int) -> None:
        self._begin = place


DOCUMENTS = [" ".join(f"w{(n * k) % 50}" for k in range(n % 17)) for n in range(120)]


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A marker after every few documents."""
    monkeypatch.setattr("workers.engine.tokenize.KEEP_EVERY", -1.0)
    monkeypatch.setattr("workers.engine.tokenize._CHARACTERS_AT_ONCE", 100)


def go_on(
    folder: Path, documents: Lines, out: Path, max_tokens: int = 0, of: str = "a text", **how: Any
) -> TokenManifest:
    kept = Kept(out.with_name("kept"), {"text": of})
    return tokenize_on(
        documents, folder, out, 8, "auto", how.get("progress", lambda n: None), max_tokens, kept
    )


def same(one: Path, other: Path) -> None:
    for name in ("tokens.bin", "manifest.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("max_tokens", [0, 500])
def test_what_was_broken_off_goes_on_to_the_same_bytes(
    model_folder: Path, tmp_path: Path, max_tokens: int
) -> None:
    whole = tmp_path / "whole"
    tokenize(DOCUMENTS, model_folder, whole, 8, "auto", lambda n: None, max_tokens)
    for broken in (3, 20, 21, 40):
        with pytest.raises(ConnectionError):
            go_on(model_folder, Lines(DOCUMENTS, broken), tmp_path / "t", max_tokens)
    last = Lines(DOCUMENTS)
    go_on(model_folder, last, tmp_path / "t", max_tokens)
    assert last._begin > 30, "it went on, and did not begin anew"
    same(whole, tmp_path / "t")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t", "whole"]
    assert len(list((tmp_path / "t").iterdir())) == 2


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("harm", ["another text", "no marker", "half a marker", "a shorter file"])
def test_what_cannot_be_gone_on_from_is_done_anew(
    model_folder: Path, tmp_path: Path, harm: str
) -> None:
    tokenize(DOCUMENTS, model_folder, tmp_path / "whole", 8, "auto", lambda n: None)
    with pytest.raises(ConnectionError):
        go_on(model_folder, Lines(DOCUMENTS, 60), tmp_path / "t")
    kept = tmp_path / "kept"
    if harm == "no marker":
        (kept / "marker.json").unlink()
    if harm == "half a marker":
        (kept / "marker.json").write_text((kept / "marker.json").read_text()[:40])
    if harm == "a shorter file":
        os.truncate(kept / "tokens.bin", 16)
    documents = Lines(DOCUMENTS)
    other = "another text" if harm == "another text" else "a text"
    go_on(model_folder, documents, tmp_path / "t", of=other)
    assert documents._begin == 0
    same(tmp_path / "whole", tmp_path / "t")


@pytest.mark.usefixtures("often")
def test_the_file_beyond_the_marker_is_cut_off(model_folder: Path, tmp_path: Path) -> None:
    tokenize(DOCUMENTS, model_folder, tmp_path / "whole", 8, "auto", lambda n: None)
    with pytest.raises(ConnectionError):
        go_on(model_folder, Lines(DOCUMENTS, 60), tmp_path / "t")
    with (tmp_path / "kept" / "tokens.bin").open("ab") as file:
        file.write(b"half a row")
    go_on(model_folder, Lines(DOCUMENTS), tmp_path / "t")
    same(tmp_path / "whole", tmp_path / "t")


@pytest.mark.parametrize("ends", [False, True])
def test_one_that_is_still_at_work_is_waited_for(
    model_folder: Path, tmp_path: Path, ends: bool
) -> None:
    """It is broken off, or it comes to its end and takes the folder along."""
    kept = tmp_path / "kept"
    kept.mkdir()
    with (kept / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def let_go(_tokens: int) -> None:
            if ends and not (tmp_path / "published").exists():
                (kept / "lock").unlink()
                kept.rename(tmp_path / "published")
            fcntl.flock(lock, fcntl.LOCK_UN)

        go_on(model_folder, Lines(DOCUMENTS), tmp_path / "t", progress=let_go)
    assert Tokens.open(tmp_path / "t").manifest.n_contexts > 1
