"""Viewers look; members start things and change their own; administrators change everything.

A role is kept where Django keeps such things: administrators are superusers, members are in the
group of that name, and everybody else looks. What nobody owns (made by a command, or whose owner
is gone) is every member's.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, TypeVar

from django.contrib.auth.backends import ModelBackend

SAFE: Final = ("GET", "HEAD", "OPTIONS")
MEMBERS: Final = "members"
# Applications whose rows members make; users and groups are the administrators'.
OURS: Final = ("trainings", "templates_app")
LOOKING: Final = "Your account may look only; ask an administrator to make you a member."

POSTS_THAT_READ: Final = (
    "/api/v1/trainings/estimate",
    "/api/v1/training-templates/import/preview",
)

View = TypeVar("View", bound=Callable[..., Any])


class Role(StrEnum):
    VIEWER = "viewer"
    MEMBER = "member"
    ADMIN = "admin"


def role_of(user: Any) -> Role:
    """Asked of the database once for each user object, which lives as long as its request."""
    if user.is_superuser:
        return Role.ADMIN
    if not hasattr(user, "_is_member"):
        user._is_member = user.groups.filter(name=MEMBERS).exists()
    return Role.MEMBER if user._is_member else Role.VIEWER


class Roles(ModelBackend):
    """Passwords as Django checks them; rights by role. Superusers have all, as Django has it."""

    def get_all_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        """None by name: those kept in Django's own tables have no meaning here."""
        return set()

    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        """`add` is of every member; `change` and `delete` of the owner of the row that is given."""
        app, _, name = perm.partition(".")
        verb = name.partition("_")[0]
        if not user_obj.is_active or app not in OURS or role_of(user_obj) is not Role.MEMBER:
            return False
        if obj is None:
            return verb == "add"
        return verb in ("change", "delete") and obj.owner_id in (None, user_obj.pk)


def viewers_may(view: View) -> View:
    """A view that changes nothing but what is the viewer's own: the login, what was seen."""
    view.viewers_may = True  # type: ignore[attr-defined]
    return view


def reads(path: str) -> bool:
    """Whether a post there changes nothing: its question does not fit into an address."""
    return path in POSTS_THAT_READ


def only_looks(request: Any, view: Any) -> bool:
    """Whether this would change something, and whoever asks may not."""
    return (
        request.method not in SAFE
        and request.user.is_authenticated
        and role_of(request.user) is Role.VIEWER
        and not getattr(view, "viewers_may", False)
        and not reads(request.path)
    )
