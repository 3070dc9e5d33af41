"""Users of each role, without passwords, whose hashing would take most of a test's time."""

from __future__ import annotations

from django.contrib.auth.models import Group, User

from saestudio.access.roles import MEMBERS, Role


def somebody(name: str = "ada", role: Role = Role.MEMBER) -> User:
    """The user of this name, made where there is none."""
    admin = role is Role.ADMIN
    user, _ = User.objects.get_or_create(
        username=name, defaults={"is_superuser": admin, "is_staff": admin}
    )
    if role is Role.MEMBER:
        # A test that empties the tables takes the migration's group along.
        user.groups.add(Group.objects.get_or_create(name=MEMBERS)[0])
    return user
