"""Whose a row is: they and administrators change it, every member where it is nobody's."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models


def owned() -> models.ForeignKey[Any, Any]:
    """A column for whoever made the row; a user who goes leaves it to all members."""
    return models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="Nobody: every member may change it.",
    )
