"""Token ids on disk: packed to the context length, memory-mapped, with a manifest written last."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .model import ModelError, inspect

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


def tokenize(
    texts: Iterable[str],
    model_folder: Path,
    out: Path,
    context_length: int,
    bos: Bos,
    progress: Callable[[int], None],
    max_tokens: int = 0,
) -> TokenManifest:
    """Tokenize documents with the model's tokenizer and pack them into contexts in `out`.

    Documents follow one another, separated by the end-of-text token where the tokenizer has one;
    every context begins with BOS if `bos` says so (`auto`: if the tokenizer has one). `progress`
    gets the number of tokens so far. After `max_tokens`, BOS included, reading ends; 0 reads all.
    `out` appears whole or not at all. Raises `TokenizeError`.
    """
    tokenizer, digest = _tokenizer(model_folder, context_length)
    bos_id = _bos_id(tokenizer, bos)
    temporary = out.with_name(out.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    writer = _Writer(temporary / "tokens.bin", context_length, bos_id, tokenizer)
    try:
        room = writer.room_for(max_tokens) if max_tokens else None
        for ids in _encoded(texts, tokenizer):
            writer.add(ids[:room])
            progress(writer.n_tokens)
            if room is not None and (room := room - len(ids)) <= 0:
                break
        manifest = writer.finish(digest)
    except TokenizeError:
        shutil.rmtree(temporary)
        raise
    finally:
        writer.close()
    _write_synced(temporary / "manifest.json", json.dumps(asdict(manifest), indent=1).encode())
    shutil.rmtree(out, ignore_errors=True)
    temporary.rename(out)
    return manifest


def tokenizer_digest(model_folder: Path) -> str:
    """SHA-256 of the tokenizer's files: tokens belong to models whose digest is the same."""
    names = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt")
    hasher = hashlib.sha256()
    for file in (model_folder / name for name in names):
        if file.is_file():
            hasher.update(file.name.encode() + b"\0" + file.read_bytes())
    return hasher.hexdigest()


class _Writer:
    """Packs ids into rows of the context length as they come."""

    def __init__(self, file: Path, context_length: int, bos_id: int | None, tokenizer: Any) -> None:
        self._file = file.open("wb")
        self._hasher = hashlib.sha256()
        self._context_length = context_length
        self._lead = [] if bos_id is None else [bos_id]
        self._bos_id = tokenizer.bos_token_id  # known even where no context begins with it
        self._vocab_size = len(tokenizer)
        self._dtype = np.dtype("<u2" if self._vocab_size <= 2**16 else "<u4")
        self._rest: list[int] = []
        self._contexts = self._bos_count = 0
        self.n_tokens = 0

    def room_for(self, max_tokens: int) -> int:
        """How many ids of the text fit into so many tokens, the BOS of every context counted."""
        contexts, rest = divmod(max_tokens, self._context_length)
        lead = len(self._lead)
        return contexts * (self._context_length - lead) + max(0, rest - lead)

    def add(self, ids: list[int]) -> None:
        self._rest += ids
        room = self._context_length - len(self._lead)
        whole = len(self._rest) // room * room
        if whole:
            self._write(np.asarray(self._rest[:whole], self._dtype).reshape(-1, room))
            self._rest = self._rest[whole:]

    def finish(self, tokenizer_sha256: str) -> TokenManifest:
        last_length = self._context_length
        if self._rest:
            last_length = len(self._lead) + len(self._rest)
            padding = [0] * (self._context_length - last_length)
            self._write(np.asarray([self._rest + padding], self._dtype), len(padding))
        usable = self.n_tokens - self._bos_count
        if usable < 1:
            raise TokenizeError("The text is empty: there is nothing to tokenize.")
        self._file.flush()
        os.fsync(self._file.fileno())
        return TokenManifest(
            n_tokens=self.n_tokens,
            n_usable=usable,
            n_contexts=self._contexts,
            context_length=self._context_length,
            last_length=last_length,
            bos=bool(self._lead),
            bos_id=self._bos_id,
            vocab_size=self._vocab_size,
            dtype=self._dtype.name,
            tokenizer_sha256=tokenizer_sha256,
            sha256=self._hasher.hexdigest(),
        )

    def close(self) -> None:
        self._file.close()

    def _write(self, rows: Ids, padding: int = 0) -> None:
        lead = np.tile(np.asarray(self._lead, self._dtype), (len(rows), 1))
        whole = np.concatenate([lead, rows], axis=1)
        data = whole.tobytes()
        self._file.write(data)
        self._hasher.update(data)
        self._contexts += len(whole)
        self.n_tokens += whole.size - padding
        real = whole.ravel()[: whole.size - padding]
        if self._bos_id is not None:
            self._bos_count += int((real == self._bos_id).sum())


def tokenizer_of(model_folder: Path) -> Any:
    """The model's own. Raises `TokenizeError`."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            model_folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise TokenizeError(f"The model's tokenizer cannot be loaded: {error}") from error


def _tokenizer(model_folder: Path, context_length: int) -> tuple[Any, str]:
    try:
        most = inspect(model_folder).context_length
    except ModelError as error:
        raise TokenizeError(f"The model's tokenizer cannot be loaded: {error}") from error
    tokenizer = tokenizer_of(model_folder)
    if context_length < 2:
        raise TokenizeError("A context needs at least two tokens.")
    if context_length > most:
        raise TokenizeError(
            f"The model takes at most {most:,} tokens at once; {context_length:,} are too many."
        )
    return tokenizer, tokenizer_digest(model_folder)


def _bos_id(tokenizer: Any, bos: Bos) -> int | None:
    """The id that begins every context, or none."""
    if bos == "never":
        return None
    if tokenizer.bos_token_id is None and bos == "always":
        raise TokenizeError(
            "The tokenizer has no BOS token, so contexts cannot begin with one; "
            "choose 'auto' or 'never'."
        )
    return None if tokenizer.bos_token_id is None else int(tokenizer.bos_token_id)


def _encoded(texts: Iterable[str], tokenizer: Any) -> Iterator[list[int]]:
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    for batch in _batches(texts):
        encoded = tokenizer(
            batch, add_special_tokens=False, return_attention_mask=False, verbose=False
        )
        for ids in encoded["input_ids"]:
            if ids:
                yield [*ids, *end]


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Documents by about a megabyte, so that the tokenizer can use every core."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _CHARACTERS_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
