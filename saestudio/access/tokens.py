"""API tokens: `Authorization: Bearer ...` in place of a session, for scripts and other tools."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import Any, Final

from django.db.models import BooleanField, Case, Q, When
from django.db.models.functions import Now

from saestudio.models import ApiToken

from .roles import SAFE

SCHEME: Final = "bearer"
PREFIX: Final = "sae_"
SHOWN: Final = 8
# `last used` is written at most so often: a client that polls should not write each time.
NOTED_EVERY: Final = timedelta(minutes=1)
READ_ONLY: Final = "This token may only read."


def digest(text: str) -> str:
    """What is kept of a token. It has 256 random bits, so that a fast hash is enough."""
    return hashlib.sha256(text.encode()).hexdigest()


def make(user: Any, name: str, *, read_only: bool, days: int | None) -> tuple[ApiToken, str]:
    """A new token's row and its text, which is shown once and kept nowhere."""
    text = PREFIX + secrets.token_urlsafe(32)
    token = ApiToken.objects.create(
        user=user,
        name=name,
        digest=digest(text),
        hint=text[:SHOWN],
        read_only=read_only,
        expires_at=Now() + timedelta(days=days) if days else None,
    )
    return token, text


def given(header: str) -> str | None:
    """The token of an Authorization header; None where it speaks of something else."""
    scheme, _, text = header.partition(" ")
    return text.strip() if scheme.lower() == SCHEME else None


def bearer(text: str) -> ApiToken | None:
    """The row of a token that is valid now, its use noted."""
    valid = Q(expires_at=None) | Q(expires_at__gt=Now())
    found = ApiToken.objects.filter(valid, digest=digest(text), user__is_active=True)
    old = Q(last_used_at=None) | Q(last_used_at__lt=Now() - NOTED_EVERY)
    # Asked with the row: an UPDATE that changes nothing still waits for SQLite's one writer.
    noted_long_ago = Case(When(old, then=True), default=False, output_field=BooleanField())
    token = found.select_related("user").annotate(noted_long_ago=noted_long_ago).first()
    if token is not None and token.noted_long_ago:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=Now())
    return token


def may(token: ApiToken, method: str) -> bool:
    return method in SAFE or not token.read_only
