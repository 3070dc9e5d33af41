"""SAEs side by side: what they are, what they were found to be worth, and what compares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from workers.engine.config.fields import show

from .evaluations import Measured
from .models import Sae
from .scorecard import GROUPS, Entry, Shown, measured

# Nearer than this, two figures are the same.
_ALIKE = 1e-9
UNKNOWN = "not known"


@dataclass(frozen=True)
class Setting:
    """One line of what is set: the value of each."""

    section: str
    label: str
    values: list[str]

    @property
    def differs(self) -> bool:
        return len(set(self.values)) > 1

    @property
    def common(self) -> str:
        """The value that most have; empty where none is more common than the others."""
        (value, n), *rest = Counter(self.values).most_common(2)
        return value if not rest or rest[0][1] < n else ""


@dataclass(frozen=True)
class Cell:
    """One SAE's figure in a row; `share` is what a count is of all its latents."""

    shown: Shown | None
    share: float | None
    best: bool


@dataclass(frozen=True)
class FigureRow:
    """One figure of each SAE."""

    entry: Entry
    cells: list[Cell]


@dataclass(frozen=True)
class FigureGroup:
    title: str
    rows: list[FigureRow]


def facts(saes: Sequence[Sae]) -> Iterator[Setting]:
    """What each SAE is, and what is known of how it was trained."""
    yield Setting("SAE", "Model", [str(sae.language_model) for sae in saes])
    yield Setting("SAE", "Place", [sae.place or UNKNOWN for sae in saes])
    yield Setting("SAE", "Architecture", [sae.architecture or UNKNOWN for sae in saes])
    yield Setting("SAE", "Latents", [show(sae.width) or UNKNOWN for sae in saes])
    yield Setting("SAE", "From", [sae.location or "a training here" for sae in saes])
    yield Setting("Training", "Text", [_trained_on(sae) for sae in saes])
    yield Setting("Training", "Tokens", [_trained_tokens(sae) for sae in saes])
    for label, name in (
        ("Normalization", "normalize_activations"),
        ("Learning rate", "learning_rate"),
        ("Target L0", "target_l0"),
        ("Top-K sparsity, %", "top_k_sparsity"),
        ("Seed", "seed"),
    ):
        yield Setting("Training", label, [_hyperparameter(sae, name) for sae in saes])


def figures(columns: Sequence[Measured]) -> list[FigureGroup]:
    """Every figure that any of them has, by group; where they compare, the best of a row."""
    compares = not obstacles(columns)
    found = (
        FigureGroup(title, [row for entry in entries if (row := _row(entry, columns, compares))])
        for title, entries in GROUPS
    )
    return [group for group in found if group.rows]


def obstacles(columns: Sequence[Measured]) -> list[str]:
    """Why their figures do not compare: sentences for the page; none where they do."""
    saes = [each.sae for each in columns]
    if len({sae.language_model.pk for sae in saes}) > 1:
        return ["They belong to different models: their figures say nothing about each other."]
    found = []
    if len({each.text.pk for each in columns}) > 1:
        found.append(
            "They were evaluated on different texts, and figures on different texts do not "
            "compare. Choose one text for all."
        )
    if len({sae.place.rpartition(" → ")[2] for sae in saes}) > 1:
        found.append(
            "They reconstruct different places of the model: FVU, cosine and what zeros cost are "
            "those of different activations, and compare only at one place."
        )
    return found


def _row(entry: Entry, columns: Sequence[Measured], compares: bool) -> FigureRow | None:
    shown = [measured(entry, each.figures) for each in columns]
    if not any(shown):
        return None
    shares = [_share(each, one.sae) for each, one in zip(shown, columns, strict=True)]
    by = [_worth(entry, each, share) for each, share in zip(shown, shares, strict=True)]
    best = _best(by) if compares else set()
    cells = zip(shown, shares, strict=True)
    return FigureRow(entry, [Cell(*each, i in best) for i, each in enumerate(cells)])


def _share(shown: Shown | None, sae: Sae) -> float | None:
    if shown is None or shown.entry.form != "count" or not sae.width:
        return None
    return float(shown.value / sae.width)


def _worth(entry: Entry, shown: Shown | None, share: float | None) -> float | None:
    """The larger, the better; None where the figure is missing or says nothing of it."""
    if shown is None or not entry.better:
        return None
    value = float(shown.value if share is None else share)
    return {"higher": value, "lower": -value, "near_one": -abs(value - 1)}[entry.better]


def _best(worth: Sequence[float | None]) -> set[int]:
    """Where the best stand; none where there is nothing to be better than."""
    known = [each for each in worth if each is not None]
    if len(known) < 2 or max(known) - min(known) <= _ALIKE:
        return set()
    return {i for i, each in enumerate(worth) if each is not None and max(known) - each <= _ALIKE}


def _trained_on(sae: Sae) -> str:
    return str(sae.training.dataset) if sae.training else UNKNOWN


def _trained_tokens(sae: Sae) -> str:
    if not sae.training:
        return UNKNOWN
    return show(sae.step * sae.training.config.hyperparameters.batch_size)


def _hyperparameter(sae: Sae, name: str) -> str:
    if not sae.training:
        return UNKNOWN
    value: Any = getattr(sae.training.config.hyperparameters, name)
    return show(value) or "–"
