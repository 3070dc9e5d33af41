"""The tables of hyperparameters and presets, as docs/hyperparameters.md shows them."""

from __future__ import annotations

from .fields import FieldSpec, show
from .hyperparameters import sections
from .presets import PRESETS, Preset

_HEAD = """\
# Hyperparameters

Made from `workers/engine/config/hyperparameters.py` by `python -m workers.engine.config`; a test
compares the two. Ranges bind the form, the API, the commands and imported templates alike.
"""
_PRESETS = """
## Presets

Recipes that trained best in the experiments ([experiments/README.md](experiments/README.md)):
`manage.py train --preset NAME`, changed with `--set` where wanted. What is not named here stays at
its default.

| name | architecture | sets | what it reached |
|---|---|---|---|
"""
_TABLE = "| name | default | range | unit | what it does |\n|---|---|---|---|---|\n"


def markdown() -> str:
    """The whole page."""
    return (
        _HEAD
        + "".join(
            f"\n## {section}\n\n{_TABLE}" + "".join(_row(field) for field in fields)
            for section, fields in sections().items()
        )
        + _PRESETS
        + "".join(_preset_row(preset) for preset in PRESETS.values())
    )


def _row(field: FieldSpec) -> str:
    default = field.automatic if field.default is None else _default(field)
    limits = ", ".join(field.choices) or field.range_text
    only = f" ({', '.join(field.only)} only)" if field.only else ""
    return f"| `{field.name}` | {default} | {limits} | {field.unit} | {field.sentence}{only} |\n"


def _preset_row(preset: Preset) -> str:
    sets = ", ".join(f"`{name}` {show(value)}" for name, value in preset.hyperparameters.items())
    return f"| `{preset.name}` | {preset.architecture.label} | {sets} | {preset.sentence} |\n"


def _default(field: FieldSpec) -> str:
    return show(field.default) if isinstance(field.default, int | float) else str(field.default)
