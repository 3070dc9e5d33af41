"""A text turned into token ids on disk; where it is broken off, it goes on later to the same bytes.

What is kept of broken-off work is the file as far as it was written, and a marker beside it that
says how far that is and where the text goes on. The marker is written after the file, so it never
says too much; what the file has beyond it is cut off.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from .model import ModelError, inspect
from .packing import Packed, Packing
from .tokens import Bos, TokenizeError, TokenManifest, tokenizer_digest, tokenizer_of

log = logging.getLogger(__name__)

_CHARACTERS_AT_ONCE = 1_000_000
_MARKER, _LOCK, _TOKENS, _MANIFEST = "marker.json", "lock", "tokens.bin", "manifest.json"
# So many seconds of work are done again at most.
KEEP_EVERY = 30.0


class Documents(Protocol):
    """The documents of a text, which can be read on from a place in it."""

    def __iter__(self) -> Iterator[str]:
        """From the beginning, or from where `go_on` was told."""

    def place(self) -> Any:
        """As JSON: where the document begins that comes after those that were read."""

    def go_on(self, place: Any) -> None:
        """Begin there and not at the first document."""


@dataclass(frozen=True)
class Kept:
    """The folder in which broken-off work is kept, and what it is work on (as JSON): of another
    text nothing is taken over."""

    folder: Path
    of: dict[str, Any]


@dataclass(frozen=True)
class _Marker:
    """How far the work was: rows in the file, ids that still fit, and the place in the text."""

    packed: Packed
    room: int | None
    place: Any


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
    work = _Work(model_folder, context_length, bos, max_tokens)
    temporary = out.with_name(out.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        manifest = work.do(temporary, texts, progress)
    except TokenizeError:
        shutil.rmtree(temporary)
        raise
    _publish(temporary, out)
    return manifest


def tokenize_on(
    texts: Documents,
    model_folder: Path,
    out: Path,
    context_length: int,
    bos: Bos,
    progress: Callable[[int], None],
    max_tokens: int,
    kept: Kept,
) -> TokenManifest:
    """The same, going on from what an earlier call has left in `kept.folder`.

    What was broken off, by whatever, is done again from at most half a minute before. Where another
    process is still at work in the folder, it is waited for. Raises `TokenizeError`.
    """
    work = _Work(model_folder, context_length, bos, max_tokens)
    of = {**kept.of, **work.identity}
    with _alone_in(kept.folder, lambda: progress(0)):
        marker = _read(kept.folder, of)
        if marker:
            texts.go_on(marker.place)
            log.info("Tokenizing goes on after %d tokens", marker.packed.n_tokens)
        keep = _Keeper(kept.folder, of, texts.place)
        try:
            manifest = work.do(kept.folder, texts, progress, marker, keep)
        except TokenizeError:
            shutil.rmtree(kept.folder)
            raise
        for name in (_MARKER, _LOCK):
            (kept.folder / name).unlink(missing_ok=True)
        _publish(kept.folder, out)
    return manifest


class _Keeper:
    """Writes the marker, every half minute."""

    def __init__(self, folder: Path, of: dict[str, Any], place: Callable[[], Any]) -> None:
        self._folder, self._of, self._place = folder, of, place
        self._kept = time.monotonic()

    def __call__(self, packing: Packing, room: int | None) -> None:
        """All documents that were read have been added."""
        if time.monotonic() - self._kept < KEEP_EVERY:
            return
        packing.sync()
        told = {
            "of": self._of,
            "packed": packing.packed.to_json(),
            "room": room,
            "place": self._place(),
        }
        draft = self._folder / f"{_MARKER}.tmp"
        _write_synced(draft, json.dumps(told).encode())
        draft.replace(self._folder / _MARKER)
        self._kept = time.monotonic()


class _Work:
    """How a text is tokenized. Raises `TokenizeError` where that is not possible."""

    def __init__(self, model_folder: Path, context_length: int, bos: Bos, max_tokens: int) -> None:
        self._tokenizer, self._digest = _tokenizer(model_folder, context_length)
        self._bos_id = _bos_id(self._tokenizer, bos)
        self._context_length, self._most = context_length, max_tokens

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "tokenizer": self._digest,
            "context_length": self._context_length,
            "bos_id": self._bos_id,
            "max_tokens": self._most,
        }

    def do(
        self,
        folder: Path,
        texts: Iterable[str],
        progress: Callable[[int], None],
        marker: _Marker | None = None,
        keep: Callable[[Packing, int | None], None] = lambda packing, room: None,
    ) -> TokenManifest:
        """The whole in `folder`, its manifest last."""
        file = folder / _TOKENS
        packed = marker.packed if marker else None
        packing = Packing(file, self._context_length, self._bos_id, self._tokenizer, packed)
        try:
            room = packing.room_for(self._most) if self._most else None
            room = marker.room if marker else room
            for batch in _encoded(texts, self._tokenizer):
                for ids in batch:
                    packing.add(ids[:room])
                    progress(packing.n_tokens)
                    if room is not None and (room := room - len(ids)) <= 0:
                        break
                if room is not None and room <= 0:
                    break
                keep(packing, room)
            manifest = packing.finish(self._digest)
        finally:
            packing.close()
        _write_synced(folder / _MANIFEST, json.dumps(asdict(manifest), indent=1).encode())
        return manifest


@contextmanager
def _alone_in(folder: Path, waits: Callable[[], None]) -> Iterator[None]:
    """No two processes write the same file, also where one of them has lost the work to another.

    That one ends as soon as it sees so; until then `waits` is called every second. Or it comes to
    its end and the folder goes: then there is another one.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _LOCK).open("wb") as lock:
            while not _locked(lock):
                waits()
                time.sleep(1)
            if _is_at(folder / _LOCK, lock):
                yield
                return


def _locked(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(path: Path, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _read(folder: Path, of: dict[str, Any]) -> _Marker | None:
    """None where there is nothing to go on from; then what lies there is written over."""
    try:
        told = json.loads((folder / _MARKER).read_bytes())
        if told["of"] != of:
            log.info("What was kept is of another text or tokenizer; it begins anew")
            return None
        if (folder / _TOKENS).stat().st_size < told["packed"]["size"]:
            log.warning("What was kept is shorter than it was; it begins anew")
            return None
        return _Marker(Packed.of(told["packed"]), told["room"], told["place"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        log.warning("The marker of what was kept cannot be read (%s); it begins anew", error)
        return None


def _publish(folder: Path, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    folder.rename(out)


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


def _encoded(texts: Iterable[str], tokenizer: Any) -> Iterator[list[list[int]]]:
    """The ids of each document, by batches of documents."""
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    for batch in _batches(texts):
        encoded = tokenizer(
            batch, add_special_tokens=False, return_attention_mask=False, verbose=False
        )
        yield [[*ids, *end] for ids in encoded["input_ids"] if ids]


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
