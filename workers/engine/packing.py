"""Token ids written to a file as rows of the context length, as they come."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from .tokens import Ids, TokenizeError, TokenManifest

_READ_AT_ONCE = 1 << 24


@dataclass
class Packed:
    """How much is in the file, and the ids that do not fill a row yet."""

    contexts: int = 0
    n_tokens: int = 0
    bos_count: int = 0
    size: int = 0
    rest: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, told: dict[str, Any]) -> Self:
        return cls(**told)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Packing:
    """Packs ids into rows of the context length, each beginning with BOS where `bos_id` is given.

    `packed`: what an earlier one has left in the file; what lies beyond it is cut off. Raises
    `TokenizeError` where the file holds less.
    """

    def __init__(
        self,
        file: Path,
        context_length: int,
        bos_id: int | None,
        tokenizer: Any,
        packed: Packed | None = None,
    ) -> None:
        self._context_length = context_length
        self._lead = [] if bos_id is None else [bos_id]
        self._bos_id = tokenizer.bos_token_id  # known even where no context begins with it
        self._vocab_size = len(tokenizer)
        self._dtype = np.dtype("<u2" if self._vocab_size <= 2**16 else "<u4")
        self.packed = packed or Packed()
        self._hasher = hashlib.sha256()
        self._file = file.open("r+b" if packed else "wb")
        if packed:
            self._go_on(file)

    @property
    def n_tokens(self) -> int:
        return self.packed.n_tokens

    def room_for(self, max_tokens: int) -> int:
        """How many ids of the text fit into so many tokens, the BOS of every context counted."""
        contexts, rest = divmod(max_tokens, self._context_length)
        lead = len(self._lead)
        return contexts * (self._context_length - lead) + max(0, rest - lead)

    def add(self, ids: list[int]) -> None:
        rest = self.packed.rest
        rest += ids
        room = self._context_length - len(self._lead)
        whole = len(rest) // room * room
        if whole:
            self._write(np.asarray(rest[:whole], self._dtype).reshape(-1, room))
            del rest[:whole]

    def sync(self) -> None:
        """What was added lies on the disk once this returns, but for the rest."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def finish(self, tokenizer_sha256: str) -> TokenManifest:
        last_length = self._context_length
        rest = self.packed.rest
        if rest:
            last_length = len(self._lead) + len(rest)
            padding = [0] * (self._context_length - last_length)
            self._write(np.asarray([rest + padding], self._dtype), len(padding))
        usable = self.n_tokens - self.packed.bos_count
        if usable < 1:
            raise TokenizeError("The text is empty: there is nothing to tokenize.")
        self.sync()
        return TokenManifest(
            n_tokens=self.n_tokens,
            n_usable=usable,
            n_contexts=self.packed.contexts,
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

    def _go_on(self, file: Path) -> None:
        """Read what is there once more, for the digest of the whole."""
        left = self.packed.size
        while left and (data := self._file.read(min(left, _READ_AT_ONCE))):
            self._hasher.update(data)
            left -= len(data)
        if left:
            self._file.close()
            raise TokenizeError(f"{file} is shorter than it was.")
        self._file.truncate()

    def _write(self, rows: Ids, padding: int = 0) -> None:
        lead = np.tile(np.asarray(self._lead, self._dtype), (len(rows), 1))
        whole = np.concatenate([lead, rows], axis=1)
        data = whole.tobytes()
        self._file.write(data)
        self._hasher.update(data)
        packed = self.packed
        packed.size += len(data)
        packed.contexts += len(whole)
        packed.n_tokens += whole.size - padding
        real = whole.ravel()[: whole.size - padding]
        if self._bos_id is not None:
            packed.bos_count += int((real == self._bos_id).sum())
