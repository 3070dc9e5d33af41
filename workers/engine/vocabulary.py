"""A model's tokens as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .tokens import tokenizer_of


class Vocabulary:
    """The text of each id as it stands within a text; bytes that are no whole character become �.

    It is decoded behind another token, whose text is then taken off: some tokenizers leave out the
    space before the first word of what they decode.
    """

    def __init__(self, model_folder: Path) -> None:
        """Raises `TokenizeError`."""
        self.tokenizer: Any = tokenizer_of(model_folder)
        self._lead = self.tokenizer("a", add_special_tokens=False)["input_ids"][-1:]
        self._lead_text = self._decoded(self._lead)
        self._known: dict[int, str] = {}

    def __getitem__(self, token_id: int) -> str:
        number = int(token_id)
        if number not in self._known:
            text = self._decoded([*self._lead, number])
            alone = not text.startswith(self._lead_text)
            self._known[number] = self._decoded([number]) if alone else text[len(self._lead_text) :]
        return self._known[number]

    def _decoded(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False))
