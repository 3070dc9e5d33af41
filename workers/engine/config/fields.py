"""How one hyperparameter is declared, and how its faces see it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

Kind = Literal["int", "float", "choice", "list"]


class Section(StrEnum):
    BASIC = "Basic"
    SPARSITY = "Sparsity"
    OPTIMIZATION = "Optimization"
    CHECKPOINTS = "Checkpoints"


def hyper(
    default: Any,
    sentence: str,
    *,
    section: Section,
    low: float | None = None,
    high: float | None = None,
    unit: str = "",
    advanced: bool = True,
    automatic: str = "",
    only: tuple[str, ...] = (),
) -> Any:
    """A field with everything its faces need. `automatic` says what null means."""
    extra: dict[str, Any] = {
        "section": section.value,
        "unit": unit,
        "advanced": advanced,
        "automatic": automatic,
        "only": list(only),
    }
    if low is not None:
        extra["minimum"] = low
    if high is not None:
        extra["maximum"] = high
    return Field(default=default, description=sentence, json_schema_extra=extra)


@dataclass(frozen=True)
class FieldSpec:
    """One hyperparameter as its faces see it."""

    name: str
    label: str
    sentence: str
    kind: Kind
    default: Any
    optional: bool
    choices: tuple[str, ...]
    low: float | None
    high: float | None
    unit: str
    section: Section
    advanced: bool
    automatic: str
    only: tuple[str, ...]

    @property
    def range_text(self) -> str:
        """The range as people read it: `512 – 16,384`; empty where there is none."""
        if self.low is None:
            return ""
        return f"{show(self.low)} – {show(self.high)}" if self.high is not None else ""

    @property
    def range_sentence(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        if self.range_text:
            return f"it may be {self.range_text}{unit}"
        return f"it must be at least {show(self.low or 0)}{unit}"

    def range_problem(self, value: Any) -> str:
        """What is wrong with a value of the right type; empty where nothing is."""
        if value is None or isinstance(value, str | tuple):
            return ""
        if isinstance(value, float) and not math.isfinite(value):
            return f"{value} is not a number; {self.range_sentence}."
        if self.low is not None and value < self.low:
            return f"{show(value)} is too small; {self.range_sentence}."
        if self.high is not None and value > self.high:
            return f"{show(value)} is too large; {self.range_sentence}."
        return ""

    def applies_to(self, architecture: str) -> bool:
        return not self.only or architecture in self.only


def show(value: float | str | Sequence[int] | None) -> str:
    """A value as the tables show it: 16,384, 0.0001, 1e-06, a list as 3, 5; empty for none.

    Read back it is the same value.
    """
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, Sequence):
        return ", ".join(map(str, value))
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    return repr(value)
