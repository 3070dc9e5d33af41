"""Whether others than this machine's own users may reach the studio as it is."""

from __future__ import annotations

import ipaddress
from typing import Final

from django.conf import settings
from django.contrib.auth.models import User

LEAST_KEY: Final = 32


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def refusal(host: str) -> str:
    """Why the studio must not listen there yet, and what to do; empty where it may."""
    if is_loopback(host):
        return ""
    if len(settings.SECRET_KEY) < LEAST_KEY:
        return (
            f"SAESTUDIO_SECRET_KEY has fewer than {LEAST_KEY} characters, and {host} can be "
            "reached from other machines. Leave it out to have one generated."
        )
    people = User.objects.filter(is_superuser=True, is_active=True)
    if not any(user.has_usable_password() for user in people):
        return (
            f"{host} can be reached from other machines, and no administrator has a password. Give "
            "one: manage.py createsuperuser, or manage.py changepassword local."
        )
    return ""
