"""API tokens as an administrator sees them: whose and when used, never the text."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest

from .models import ApiToken


def _administrators(request: HttpRequest) -> bool:
    """Members that Django calls staff have nothing to do here."""
    return request.user.is_active and request.user.is_superuser


admin.site.has_permission = _administrators  # type: ignore[method-assign]


@admin.register(ApiToken)
class ApiTokenAdmin(admin.ModelAdmin[ApiToken]):
    """Deleting one revokes it."""

    list_display = ("name", "user", "hint", "read_only", "last_used_at", "expires_at", "created_at")
    list_filter = ("read_only", "user")
    search_fields = ("name", "user__username", "hint")
    list_select_related = ("user",)
    fields = ("name", "user", "hint", "read_only", "created_at", "last_used_at", "expires_at")
    readonly_fields = ("user", "hint", "created_at", "last_used_at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Its text could be shown to nobody but its owner, on the account page."""
        return False
