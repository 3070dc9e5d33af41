"""A model's tokens as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .tokens import tokenizer_of


class Vocabulary:
    """The text of each id by itself; bytes that are no whole character become �."""

    def __init__(self, model_folder: Path) -> None:
        """Raises `TokenizeError`."""
        self.tokenizer: Any = tokenizer_of(model_folder)
        self._known: dict[int, str] = {}

    def __getitem__(self, token_id: int) -> str:
        number = int(token_id)
        if number not in self._known:
            self._known[number] = str(self.tokenizer.decode([number]))
        return self._known[number]
