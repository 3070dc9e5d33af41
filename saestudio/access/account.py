"""One's own account: role, password and API tokens."""

from __future__ import annotations

import uuid
from typing import Any, cast

from django import forms
from django.contrib import messages
from django.contrib.auth import authenticate, update_session_auth_hash
from django.contrib.auth.forms import PasswordChangeForm, SetPasswordForm
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from . import tokens
from .roles import role_of, viewers_may

MAX_TOKENS = 50


class TokenForm(forms.Form):
    """A token's name, what it may do, and for how long."""

    name = forms.CharField(max_length=100, help_text="What it is for, for example the notebook.")
    days = forms.TypedChoiceField(
        label="Valid for",
        coerce=int,
        choices=[(30, "30 days"), (90, "90 days"), (365, "a year"), (0, "as long as it is kept")],
        initial=90,
    )
    read_only = forms.BooleanField(required=False, label="May only read")


class OwnPasswordForm(PasswordChangeForm):
    """Guesses of the old password count as failed logins do, and end as those end."""

    def __init__(self, request: HttpRequest, data: Any = None) -> None:
        self.request = request
        super().__init__(_user(request), data)

    def clean_old_password(self) -> str:
        given: str = self.cleaned_data["old_password"]
        name = self.user.get_username()
        if authenticate(self.request, username=name, password=given) is None:
            raise ValidationError(self.error_messages["password_incorrect"])
        return given


@viewers_may
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def account(request: HttpRequest) -> HttpResponse:
    """Role and tokens; a post makes a token, whose text this one answer shows."""
    form = TokenForm(request.POST or None)
    if request.method != "POST" or not form.is_valid():
        return _page(request, 422 if form.is_bound else 200, form=form)
    own = _user(request).api_tokens
    if own.count() >= MAX_TOKENS:
        form.add_error(None, f"You have {MAX_TOKENS} tokens; revoke one first.")
        return _page(request, 422, form=form)
    given = form.cleaned_data
    read_only, days = given["read_only"], given["days"] or None
    try:
        with transaction.atomic():
            made, text = tokens.make(_user(request), given["name"], read_only=read_only, days=days)
    except IntegrityError:
        # Also where the page is reloaded, or the button pressed twice: there is no second one.
        form.add_error("name", "You have a token of this name; revoke it first, or choose another.")
        return _page(request, 422, form=form)
    return _page(request, form=TokenForm(), made=made, text=text)


@viewers_may
@require_POST
def revoke(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """From now on whoever uses it is refused."""
    token = get_object_or_404(_user(request).api_tokens, pk=pk)
    token.delete()
    messages.success(request, f"{token.name} is revoked.")
    return HttpResponseRedirect(reverse("account"))


@viewers_may
@sensitive_post_parameters()
@never_cache
@require_POST
def password(request: HttpRequest) -> HttpResponse:
    """Another password; all other sessions end, this one goes on."""
    form = _password_form(request, request.POST)
    if not form.is_valid():
        return _page(request, 422, password=form)
    update_session_auth_hash(request, form.save())
    messages.success(request, "The password is changed. Other sessions of yours have ended.")
    return HttpResponseRedirect(reverse("account"))


def _user(request: HttpRequest) -> User:
    """Whoever is logged in: the middleware lets nobody else in here."""
    return cast(User, request.user)


def _page(request: HttpRequest, status: int = 200, **context: Any) -> HttpResponse:
    shown = {
        "role": role_of(_user(request)),
        "tokens": _user(request).api_tokens.all(),
        "form": TokenForm(),
        "password": _password_form(request),
        **context,
    }
    return render(request, "registration/account.html", shown, status=status)


def _password_form(request: HttpRequest, data: Any = None) -> Any:
    """The local user of a login link has no password yet, so there is no old one to ask for."""
    user = _user(request)
    form: Any
    if user.has_usable_password():
        form = OwnPasswordForm(request, data)
    else:
        form = SetPasswordForm(user, data)
    form.fields["new_password1"].help_text = "Eight characters or more, and no common one."
    form.fields["new_password2"].label = "The new password again"
    form.fields["new_password2"].help_text = ""
    return form
