"""All SAEs of a model between sparsity and fidelity: a point each, and those that none beats."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from .evaluations import Evaluations, Measured
from .models import LanguageModel, Sae, Tokenization
from .standing import front

# As many are drawn at once, the newest first.
MOST = 500
Grouping = Literal["architecture", "place"]


@dataclass(frozen=True)
class Point:
    """One SAE on one text: L0, and what is lost there."""

    measured: Measured

    @property
    def sae(self) -> Sae:
        return self.measured.sae

    @property
    def l0(self) -> float:
        return float(self.measured.figures["l0"])

    @property
    def fvu(self) -> float:
        return float(self.measured.figures["fvu"])

    @property
    def ce_recovered(self) -> float | None:
        found: float | None = self.measured.figures.get("ce_recovered")
        return found

    @property
    def ce_lost(self) -> float | None:
        return None if self.ce_recovered is None else 1 - self.ce_recovered


@dataclass(frozen=True)
class Chosen:
    """Which SAEs of a model are looked at, and on which text; None leaves it open.

    Without a text it is the one on which most of them were measured; with `own`, each one's own.
    """

    place: str | None = None
    layer: int | None = None
    hook: str | None = None
    width: int | None = None
    text: Tokenization | None = None
    own: bool = False

    def has(self, sae: Sae) -> bool:
        asked = (
            (self.place, sae.place),
            (self.layer, sae.layer),
            (self.hook, sae.hook),
            (self.width, sae.width),
        )
        return all(wanted is None or wanted == found for wanted, found in asked)


@dataclass(frozen=True)
class Plane:
    """The points on one text, or None for each on its own; and those that were not measured on it.

    `fvu_front` and `ce_front` are the SAEs that no other beats in both L0 and what is lost.
    """

    text: Tokenization | None
    points: list[Point]
    missing: list[Measured]
    fvu_front: set[UUID]
    ce_front: set[UUID]


def saes_of(model: LanguageModel) -> list[Sae]:
    """Those that are there to be measured, the newest first."""
    return list(Sae.objects.visible().of_model(model).filter(ready=True)[:MOST])


def plane(saes: Iterable[Sae], chosen: Chosen) -> Plane:
    kept = [sae for sae in saes if chosen.has(sae)]
    evaluations = Evaluations(kept)
    text = None if chosen.own else chosen.text or evaluations.commonest
    columns = [evaluations.on(sae, text) for sae in kept]
    points = [Point(each) for each in columns if drawn(each)]
    points.sort(key=lambda point: (point.l0, point.fvu))
    return Plane(
        text,
        points,
        [each for each in columns if not drawn(each)],
        front((point.sae.pk, point.l0, point.fvu) for point in points),
        front((point.sae.pk, point.l0, point.ce_lost) for point in points),
    )


def drawn(measured: Measured) -> bool:
    """Whether it has a place in the plane."""
    return all(measured.figures.get(name) is not None for name in ("l0", "fvu"))


def group_of(sae: Sae, by: Grouping) -> str:
    """What it is coloured by; a TopK is one architecture whatever its K."""
    if by == "place":
        return sae.place
    return re.sub(r"^TopK \d+", "TopK", sae.architecture)
