"""Which trainings the list shows and in which order: all of it stands in the address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self
from urllib.parse import urlencode

from django.db.models import F, FloatField, Q, Value
from django.db.models.fields.json import KT
from django.db.models.functions import Cast, Lower, NullIf
from django.urls import reverse

from trainings.models import Tag, tag
from trainings.models.transitions import TrainingQuerySet

from .cards import shown

STATUSES = ("running", "pending", "completed", "failed", "stopped")
SORTS = {
    "": "Newest first",
    "oldest": "Oldest first",
    "name": "Name",
    "fvu": "Lowest FVU",
    "l0": "Lowest L0",
    "loss": "Lowest loss",
    "dead": "Fewest dead neurons",
    "ended": "Ended last",
}
# As a caller or a command writes them, who leave nothing out.
SORT_WORDS = {sort or "newest": sort for sort in SORTS}
PER_PAGE = (20, 50, 100)
_MEASURED = {"fvu": "fvu", "l0": "l0", "loss": "loss", "dead": "dead_neurons"}


@dataclass(frozen=True)
class Listing:
    """What an address asks the list to show."""

    status: str = ""
    search: str = ""
    tag: str = ""
    sort: str = ""
    per_page: int = PER_PAGE[0]

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Self:
        """What makes no sense in the address is left out."""
        status, sort = query.get("status", ""), query.get("sort", "")
        sizes = {str(size): size for size in PER_PAGE}
        return cls(
            status=status if status in STATUSES else "",
            search=_text(query.get("q", "")),
            tag=tag.tidy(query.get("tag", "")),
            sort=sort if sort in SORTS else "",
            per_page=sizes.get(query.get("per", ""), PER_PAGE[0]),
        )

    @property
    def narrows(self) -> bool:
        return bool(self.status or self.search or self.tag)

    def parts(self) -> dict[str, str]:
        """What the address must say of it."""
        per = str(self.per_page) if self.per_page != PER_PAGE[0] else ""
        said = {
            "status": self.status,
            "q": self.search,
            "tag": self.tag,
            "sort": self.sort,
            "per": per,
        }
        return {name: value for name, value in said.items() if value}

    def address(self, **changes: Any) -> str:
        """Of the list with these parts changed, on its first page."""
        query = urlencode(replace(self, **changes).parts())
        return reverse("trainings") + (f"?{query}" if query else "")

    @property
    def hidden_by_search(self) -> list[tuple[str, str]]:
        """Fields the search needs to keep the rest of the address."""
        return [(name, value) for name, value in self.parts().items() if name != "q"]

    @property
    def order(self) -> str:
        return SORTS[self.sort]

    def orders(self) -> list[dict[str, Any]]:
        """Each order with the address that has it."""
        return [
            {"word": word, "current": sort == self.sort, "address": self.address(sort=sort)}
            for sort, word in SORTS.items()
        ]

    def sizes(self) -> list[dict[str, Any]]:
        """How many cards a page may have, each with its address."""
        return [
            {"n": n, "current": n == self.per_page, "address": self.address(per_page=n)}
            for n in PER_PAGE
        ]

    def runs(self) -> TrainingQuerySet:
        found: TrainingQuerySet = shown()
        if self.status:
            found = found.filter(status=self.status)
        if self.tag:
            found = found.filter(tags__name=self.tag)
        if self.search:
            found = found.filter(_has(self.search))
        return found.order_by(*_order(self.sort))

    def statuses(self) -> list[dict[str, Any]]:
        """Each status with the address that shows it, and how many are there."""
        counts = replace(self, status="", sort="").runs().by_status()
        return [
            {
                "word": status.capitalize() or "All",
                "count": counts.get(status, 0) if status else sum(counts.values()),
                "current": status == self.status,
                "address": self.address(status=status),
            }
            for status in ("", *STATUSES)
        ]

    def tags(self) -> list[dict[str, Any]]:
        """Each tag in use with its address; the chosen one's address lets it go again."""
        names = list(Tag.objects.used().values_list("name", flat=True))
        if self.tag and self.tag not in names:
            names.append(self.tag)
        return [
            {
                "name": name,
                "current": name == self.tag,
                "address": self.address(tag="" if name == self.tag else name),
            }
            for name in names
        ]


def _text(text: str) -> str:
    """What can be looked for: PostgreSQL has no null characters."""
    return text.replace("\x00", "").strip()


def _has(text: str) -> Q:
    """Anything a run is known by contains this text."""
    columns = ("name", "architecture", "model__name", "dataset__name", "notes")
    found = Q()
    for column in columns:
        found |= Q(**{f"{column}__icontains": text})
    return found


def _order(sort: str) -> tuple[Any, ...]:
    """The newest first among equals; what was not measured comes last."""
    if sort in _MEASURED:
        # A value that JSON says is null is the word on SQLite, and nothing on PostgreSQL.
        text = NullIf(KT(f"latest__{_MEASURED[sort]}"), Value("null"))
        value = Cast(text, FloatField())
        return (value.asc(nulls_last=True), "-created_at")
    if sort == "oldest":
        return ("created_at",)
    if sort == "name":
        return (Lower("name"), "-created_at")
    if sort == "ended":
        return (F("completed_at").desc(nulls_last=True), "-created_at")
    return ("-created_at",)
