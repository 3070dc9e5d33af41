"""The table of every hyperparameter, as docs/hyperparameters.md shows it."""

from __future__ import annotations

from .fields import FieldSpec, show
from .hyperparameters import sections

_HEAD = """\
# Hyperparameters

Made from `workers/engine/config/hyperparameters.py` by `python -m workers.engine.config`; a test
compares the two. Ranges bind the form, the API, the commands and imported templates alike.
"""
_TABLE = "| name | default | range | unit | what it does |\n|---|---|---|---|---|\n"


def markdown() -> str:
    """The whole page."""
    return _HEAD + "".join(
        f"\n## {section}\n\n{_TABLE}" + "".join(_row(field) for field in fields)
        for section, fields in sections().items()
    )


def _row(field: FieldSpec) -> str:
    default = field.automatic if field.default is None else _default(field)
    limits = ", ".join(field.choices) or field.range_text
    only = f" ({', '.join(field.only)} only)" if field.only else ""
    return f"| `{field.name}` | {default} | {limits} | {field.unit} | {field.sentence}{only} |\n"


def _default(field: FieldSpec) -> str:
    return show(field.default) if isinstance(field.default, int | float) else str(field.default)
