"""The table of an SAE's latents: in an order, or those that a word brings up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from django.http import HttpRequest

from workers.engine.features import FeatureTable, Listed, Order

from .pages import whole

PER_PAGE = 50
ORDERS: dict[Order, str] = {
    "frequency": "Frequency",
    "maximum": "Largest activation",
    "mean": "Mean activation",
    "id": "Number",
}


@dataclass(frozen=True)
class FeaturePage:
    """A page of latents and how it was asked for."""

    rows: list[Listed]
    total: int
    number: int
    order: Order
    descending: bool
    word: str
    promotes: bool

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // PER_PAGE))

    @property
    def orders(self) -> dict[Order, str]:
        return ORDERS


def listed(request: HttpRequest, table: FeatureTable) -> FeaturePage:
    """What the address asks for; what it asks wrongly is as if it had not asked."""
    asked = request.GET.get("sort", "frequency")
    order: Order = asked if asked in get_args(Order) else "frequency"  # type: ignore[assignment]
    descending = request.GET.get("way", "down") != "up"
    word, promotes = request.GET.get("token", "").strip()[:100], request.GET.get("by") == "promotes"
    number = max(1, min(whole(request, "page", 1), -(-table.count // PER_PAGE)))
    offset = (number - 1) * PER_PAGE
    if word:
        kind = "promotes" if promotes else "fires"
        rows, total = table.searched(word, kind, limit=PER_PAGE, offset=offset)  # type: ignore[arg-type]
    else:
        rows = table.listed(order, descending=descending, limit=PER_PAGE, offset=offset)
        total = table.count
    return FeaturePage(rows, total, number, order, descending, word, promotes)
