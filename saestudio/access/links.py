"""The one-time link that the local start prints, and what it opens."""

from __future__ import annotations

from typing import Final

from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.models import User, update_last_login
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET

from .exposure import is_loopback

LOCAL_USER: Final = "local"


class LoginLinks(PasswordResetTokenGenerator):
    """Signed links for one login: the signature covers `last_login`, which the login changes."""

    key_salt = "saestudio.access.LoginLinks"


links = LoginLinks()


def login_link() -> str:
    """An address that logs the local user in, once, within three days."""
    user, created = User.objects.get_or_create(
        username=LOCAL_USER, defaults={"is_staff": True, "is_superuser": True}
    )
    if created:
        user.set_unusable_password()
        user.save(update_fields=["password"])
    path = reverse("login_link", args=[links.make_token(user)])
    if settings.PUBLIC_URL:
        return f"{settings.PUBLIC_URL}{path}"
    host = settings.BIND if is_loopback(settings.BIND) else "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.PORT}{path}"


@login_not_required
@require_GET
def use_login_link(request: HttpRequest, token: str) -> HttpResponse:
    """Make a session of a login link; a second use shows where to get a new one.

    Whoever is logged in stays who they are; the link is used up all the same.
    """
    found = User.objects.filter(username=LOCAL_USER, is_active=True).first()
    user = found if found and links.check_token(found, token) else None
    if request.user.is_authenticated:
        if user:
            update_last_login(None, user)  # type: ignore[arg-type]
        return redirect(settings.LOGIN_REDIRECT_URL)
    if user is None:
        return render(request, "registration/link_used.html", status=403)
    login(request, user, backend="saestudio.access.roles.Roles")
    return redirect(settings.LOGIN_REDIRECT_URL)
