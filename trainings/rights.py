"""Whether somebody may change a row. The rule itself is `saestudio.access.roles`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.shortcuts import get_object_or_404


def may_change(user: Any, row: Model) -> bool:
    return bool(user.has_perm(f"{row._meta.app_label}.change_{row._meta.model_name}", row))


def refusal(user: Any, row: Any) -> str:
    """Why they may not change it; empty where they may."""
    if may_change(user, row):
        return ""
    if row.owner_id in (None, user.pk):
        return "Your account may look only."
    return f"It belongs to {row.owner}; only they and administrators may change it."


def changeable(user: Any, rows: QuerySet[Any], pk: UUID | str) -> Any:
    """The row. Raises Http404 where there is none, PermissionDenied where it is another's."""
    return demand(user, get_object_or_404(rows, pk=pk))


def demand_job(user: Any, job: Any) -> Any:
    """A job over an SAE that is theirs, or over their SAE. Raises PermissionDenied otherwise."""
    if job.owner_id != user.pk:
        demand(user, job.sae.training or job.sae)
    return job


def demand(user: Any, row: Any) -> Any:
    """The row. Raises PermissionDenied where it is another's."""
    if reason := refusal(user, row):
        raise PermissionDenied(reason)
    return row
