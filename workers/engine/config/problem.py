"""What is wrong with what was asked: fields and sentences, one shape for every door."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing wrong with what was asked: the field it stands at and a sentence that helps."""

    field: str
    message: str


class ConfigError(ValueError):
    """What was asked cannot be trained; carries one `Problem` per fault."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(f"{p.field}: {p.message}" for p in self.problems))
