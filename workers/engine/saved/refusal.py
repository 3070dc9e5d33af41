"""What another tool's format cannot hold."""

from __future__ import annotations


class CannotExport(Exception):
    """A tool has no such SAE. The message is a sentence: `why`, and what would do instead."""

    def __init__(self, why: str, instead: str) -> None:
        super().__init__(f"{why}: {instead}.")
        self.why = why
