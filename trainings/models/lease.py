"""Work that one worker holds at a time: a lease by the database's clock, an attempt as fence.

Whoever works on a row claims it with one conditional UPDATE, renews the lease while it works, and
names its attempt in every write. A worker that lost its lease therefore changes nothing.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Self

from django.db import models
from django.db.models import DateTimeField, ExpressionWrapper
from django.db.models.expressions import Combinable
from django.db.models.functions import Now

LEASE = timedelta(seconds=60)


def lease_end() -> Combinable:
    """A moment one lease from now, computed by the database."""
    return ExpressionWrapper(Now() + LEASE, output_field=DateTimeField())


def ago(span: timedelta) -> Combinable:
    """A moment so long ago, by the database's clock."""
    return ExpressionWrapper(Now() - span, output_field=DateTimeField())


class LeasedQuerySet(models.QuerySet[Any]):
    """Named questions about work: what can be claimed, what was lost, what is mine."""

    def claimable(self) -> Self:
        return self.filter(status="pending")

    def lost(self) -> Self:
        """Running by its row, but nobody has renewed the lease."""
        return self.filter(status="running", lease_expires_at__lt=Now())

    def held(self, pk: Any, attempt: int) -> Self:
        """The row, as long as this attempt still holds it."""
        return self.filter(pk=pk, attempt=attempt, status="running")

    def claim(self, pk: Any, worker: str, **values: Any) -> int | None:
        """Take a pending row. Returns the attempt that is now mine, or None if there is nothing.

        What makes a row claimable may lie in other tables, and PostgreSQL looks at those only once,
        before it has waited for whoever holds the row. So they are asked first, and the UPDATE
        names what the row itself was: compare and swap.
        """
        attempt = self.claimable().filter(pk=pk).values_list("attempt", flat=True).first()
        if attempt is None:
            return None
        won = self.filter(pk=pk, status="pending", attempt=attempt).update(
            status="running",
            attempt=attempt + 1,
            lease_expires_at=lease_end(),
            worker=worker,
            **values,
        )
        return int(attempt) + 1 if won else None

    def renew(self, pk: Any, attempt: int, **values: Any) -> bool:
        """Keep the lease and write what is new. False once the row is somebody else's."""
        return bool(self.held(pk, attempt).update(lease_expires_at=lease_end(), **values))

    def end(self, pk: Any, attempt: int, status: str, **values: Any) -> bool:
        """Give the row back in its last state. False if it was no longer mine."""
        return bool(self.held(pk, attempt).update(status=status, lease_expires_at=None, **values))


class Leased(models.Model):
    """The columns a lease needs."""

    attempt = models.PositiveIntegerField(default=0)
    worker = models.CharField(max_length=255, blank=True, default="")
    lease_expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True
