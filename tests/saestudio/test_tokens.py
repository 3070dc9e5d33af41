"""API tokens: made once, shown once, kept as a digest, and revoked at once."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse

from saestudio.access import tokens
from saestudio.access.roles import Role
from saestudio.models import ApiToken
from tests.people import somebody
from tests.rows import a_training

pytestmark = pytest.mark.django_db
URL = "/api/v1/trainings"


def made(*, read_only: bool = False, days: int | None = None, role: Role = Role.MEMBER) -> str:
    return tokens.make(somebody(role=role), "notebook", read_only=read_only, days=days)[1]


def with_token(text: str) -> Client:
    return Client(enforce_csrf_checks=True, headers={"Authorization": f"Bearer {text}"})


def test_script_with_a_token_works_in_its_users_name() -> None:
    script = with_token(made())
    run = a_training(status="running")
    assert script.get(URL).json()["count"] == 1
    assert script.post(f"{URL}/{run.pk}/stop").status_code == 200
    run.refresh_from_db()
    assert run.stop_requested_at


def test_nothing_of_a_token_is_kept_but_its_digest() -> None:
    text = made()
    row = ApiToken.objects.get()
    kept = " ".join(map(str, ApiToken.objects.values_list().get()))
    assert text not in kept
    assert row.digest == tokens.digest(text)
    assert text.startswith(row.hint)


@pytest.mark.parametrize("what", ["unknown", "revoked", "expired", "user gone"])
def test_token_that_is_not_valid_is_refused(what: str) -> None:
    text = made(days=30)
    if what == "unknown":
        text += "x"
    if what == "revoked":
        ApiToken.objects.all().delete()
    if what == "expired":
        ApiToken.objects.update(expires_at=Now() - timedelta(seconds=1))
    if what == "user gone":
        user = somebody()
        user.is_active = False
        user.save()
    answer = with_token(text).get(URL)
    assert answer.status_code == 401
    assert answer.json()["errors"][0]["field"] == "authorization"
    assert "Bearer" in answer["WWW-Authenticate"]


def test_invalid_token_is_not_made_good_by_a_session() -> None:
    client = with_token("sae_none")
    client.force_login(somebody())
    assert client.get(URL).status_code == 401


def test_token_that_may_only_read_changes_nothing() -> None:
    script = with_token(made(read_only=True))
    run = a_training(status="running")
    assert script.get(URL).status_code == 200
    answer = script.post(f"{URL}/{run.pk}/stop")
    assert (answer.status_code, answer.json()["errors"][0]["message"]) == (403, tokens.READ_ONLY)
    run.refresh_from_db()
    assert not run.stop_requested_at


def test_last_use_is_noted_once_a_minute() -> None:
    script = with_token(made())
    script.get(URL)
    first = ApiToken.objects.get().last_used_at
    assert first
    script.get(URL)
    assert ApiToken.objects.get().last_used_at == first
    ApiToken.objects.update(last_used_at=Now() - timedelta(minutes=2))
    script.get(URL)
    assert ApiToken.objects.get().last_used_at >= first


def test_token_opens_no_page() -> None:
    """Whoever has one makes no other, changes no password and sees no administration."""
    script = with_token(made(role=Role.ADMIN))
    for address in (reverse("account"), "/", "/admin/"):
        assert script.get(address).status_code == 302
    assert script.post(reverse("account"), {"name": "x", "days": "0"}).status_code in (302, 403)
    assert ApiToken.objects.count() == 1


def test_account_page_makes_a_token_shows_it_once_and_revokes_it() -> None:
    client = Client()
    client.force_login(somebody())
    page = client.post(reverse("account"), {"name": "notebook", "days": "30"}).content.decode()
    text = re.search(r"sae_[\w-]{40,}", page)
    assert text
    assert with_token(text[0]).get(URL).status_code == 200
    again = client.get(reverse("account")).content.decode()
    assert "notebook" in again
    assert text[0] not in again
    row = ApiToken.objects.get()
    assert client.post(reverse("revoke_token", args=[row.pk])).status_code == 302
    assert with_token(text[0]).get(URL).status_code == 401


def test_nobody_revokes_anothers_token() -> None:
    made()
    client = Client()
    client.force_login(somebody("bob", Role.ADMIN))
    row = ApiToken.objects.get()
    assert client.post(reverse("revoke_token", args=[row.pk])).status_code == 404
    assert ApiToken.objects.count() == 1


def test_changed_password_ends_other_sessions() -> None:
    user = somebody()
    user.set_password("a long old one")
    user.save()
    here, there = Client(), Client()
    here.force_login(user)
    there.force_login(user)
    typed = {
        "old_password": "a long old one",
        "new_password1": "quite another one",
        "new_password2": "quite another one",
    }
    assert here.post(reverse("password"), typed).status_code == 302
    assert here.get(reverse("account")).status_code == 200
    assert there.get(reverse("account")).status_code == 302
    wrong = here.post(reverse("password"), typed)
    assert (wrong.status_code, b"old password was entered incorrectly" in wrong.content) == (
        422,
        True,
    )
