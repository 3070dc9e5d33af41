"""A failed validation as fields and sentences."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from .hyperparameters import FIELDS, Architecture
from .problem import ConfigError, Problem


def problems(error: ValidationError | ConfigError) -> list[Problem]:
    """A failed validation as fields and sentences, whatever nesting it came from."""
    if isinstance(error, ConfigError):
        return error.problems
    found: list[Problem] = []
    for item in error.errors():
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, ConfigError):
            found.extend(cause.problems)
        else:
            found.append(_problem(tuple(str(part) for part in item["loc"]), item))
    return list(dict.fromkeys(found))  # of a list, each wrong value would say the same


def _problem(location: tuple[str, ...], item: Any) -> Problem:
    name = next((part for part in reversed(location) if part in FIELDS), None)
    field = name or (location[-1] if location else "configuration")
    if item["type"] == "extra_forbidden":
        return Problem(field, "There is no such hyperparameter.")
    if item["type"] == "enum":
        return Problem(field, f"Choose one of {', '.join(Architecture)}.")
    if name is None:
        return Problem(field, f"{item['msg']}.")
    spec = FIELDS[name]
    if spec.choices:
        return Problem(field, f"Choose one of {', '.join(spec.choices)}.")
    if spec.kind == "list":
        return Problem(field, "Write whole numbers with commas between them, as in 3, 5.")
    kind = "a whole number" if spec.kind == "int" else "a number"
    return Problem(field, f"Write {kind}; {spec.range_sentence}.")
