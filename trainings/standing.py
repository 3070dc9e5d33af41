"""Where a training stands between sparsity and fidelity, and which of several none beats."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from .models import Training


@dataclass(frozen=True)
class Standing:
    """L0, and what is lost there: on held-out tokens where `final`, else as last logged."""

    l0: float | None
    fvu: float | None
    ce_recovered: float | None
    final: bool

    @property
    def ce_lost(self) -> float | None:
        return None if self.ce_recovered is None else 1 - self.ce_recovered


def standing(run: Training) -> Standing:
    sae = getattr(run, "sae", None)
    held_out = sae.evaluation if sae else {}
    # A run that trains again has an SAE from before.
    final = run.has_ended and held_out.get("fvu") is not None
    found = held_out if final else run.latest
    recovered = found.get("ce_recovered") if final else None
    return Standing(found.get("l0"), found.get("fvu"), recovered, final)


def front(points: Iterable[tuple[UUID, float | None, float | None]]) -> set[UUID]:
    """Of `(id, L0, lost)` those that no other beats in both; what is not known beats nothing."""
    known = [(l0, lost, pk) for pk, l0, lost in points if l0 is not None and lost is not None]
    found, best = set(), float("inf")
    for _, lost, pk in sorted(known):
        if lost < best:
            found.add(pk)
            best = lost
    return found


def fvu_front(runs: Iterable[Training]) -> set[UUID]:
    """Of these trainings, in L0 and FVU."""
    places = [(run.pk, standing(run)) for run in runs]
    return front((pk, place.l0, place.fvu) for pk, place in places)
