"""Token ids on disk, memory-mapped, with a manifest that was written last."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.integer[Any]]
Bos = Literal["auto", "always", "never"]
_CHARACTERS_AT_ONCE = 1_000_000


class TokenizeError(Exception):
    """A text cannot be tokenized or tokens cannot be read; the message is a sentence."""


@dataclass(frozen=True)
class TokenManifest:
    """What a tokenization is: its identity and its sizes.

    `n_tokens` counts every id on disk but padding, BOS included; `n_usable` only those whose
    activations may reach an SAE: neither BOS nor padding. Only the last context is padded, after
    `last_length` ids.
    """

    n_tokens: int
    n_usable: int
    n_contexts: int
    context_length: int
    last_length: int
    bos: bool
    bos_id: int | None
    vocab_size: int
    dtype: str
    tokenizer_sha256: str
    sha256: str


@dataclass(frozen=True)
class Tokens:
    """A tokenization opened for reading; `ids` is a memory map [n_contexts, context_length]."""

    manifest: TokenManifest
    ids: Ids
    digest: str

    @classmethod
    def open(cls, folder: Path) -> Tokens:
        """Raises `TokenizeError` where the folder is incomplete."""
        try:
            text = (folder / "manifest.json").read_bytes()
            manifest = TokenManifest(**json.loads(text))
        except (OSError, ValueError, TypeError) as error:
            raise TokenizeError(
                f"The tokenization in {folder} is incomplete; tokenize the text again."
            ) from error
        shape = (manifest.n_contexts, manifest.context_length)
        file, itemsize = folder / "tokens.bin", np.dtype(manifest.dtype).itemsize
        if not file.is_file() or file.stat().st_size != shape[0] * shape[1] * itemsize:
            raise TokenizeError(f"{file} is missing or cut short; tokenize the text again.")
        ids = np.memmap(file, dtype=manifest.dtype, mode="r", shape=shape)
        return cls(manifest, ids, hashlib.sha256(text).hexdigest())

    @classmethod
    def of_model(cls, folder: Path, model_folder: Path) -> Tokens:
        """Raises `TokenizeError` also where they are another model's."""
        tokens = cls.open(folder)
        if tokens.manifest.tokenizer_sha256 != tokenizer_digest(model_folder):
            raise TokenizeError(
                "The tokenization was made with another model's tokenizer; "
                "tokenize the text with this model."
            )
        return tokens

    def usable(self, contexts: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which positions [len(contexts), context_length] hold neither BOS nor padding."""
        m = self.manifest
        lengths = np.where(contexts == m.n_contexts - 1, m.last_length, m.context_length)
        usable = np.arange(m.context_length)[None, :] < lengths[:, None]
        return usable if m.bos_id is None else usable & (self.ids[contexts] != m.bos_id)


def tokenizer_digest(model_folder: Path) -> str:
    """SHA-256 of the tokenizer's files: tokens belong to models whose digest is the same."""
    names = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt")
    hasher = hashlib.sha256()
    for file in (model_folder / name for name in names):
        if file.is_file():
            hasher.update(file.name.encode() + b"\0" + file.read_bytes())
    return hasher.hexdigest()


def tokenizer_of(model_folder: Path) -> Any:
    """The model's own. Raises `TokenizeError`."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            model_folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise TokenizeError(f"The model's tokenizer cannot be loaded: {error}") from error
