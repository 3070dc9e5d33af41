"""Who gets in, and who does not."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client

from saestudio.access.links import login_link
from tests.people import somebody

pytestmark = pytest.mark.django_db


def path_of(link: str) -> str:
    return urlsplit(link).path


def test_the_printed_link_logs_in_once(client: Client) -> None:
    link = path_of(login_link())
    assert client.get(link).status_code == 302
    assert client.get("/").status_code == 200
    other = Client()
    assert other.get(link).status_code == 403


def test_opening_the_link_again_in_the_same_browser_leads_home(client: Client) -> None:
    link = path_of(login_link())
    client.get(link)
    assert client.get(link).headers["Location"] == "/"


def test_opening_the_link_while_logged_in_uses_it_up(client: Client) -> None:
    client.force_login(somebody("ada"))
    link = path_of(login_link())
    assert client.get(link).headers["Location"] == "/"
    assert Client().get(link).status_code == 403
    assert client.get("/account").context["user"].username == "ada"


def test_scripts_that_are_nobody_are_told_to_bring_a_token(client: Client) -> None:
    for address in ("/metrics", "/api/v1/openapi.json", "/api/v1/trainings"):
        answer = client.get(address)
        assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer"), address
        assert answer.json()["errors"][0]["field"] == "authorization"
    assert client.get("/api/v1/docs").headers["Location"].startswith("/login")


def test_a_forged_link_is_refused(client: Client) -> None:
    login_link()
    assert client.get("/login/link/abc-def").status_code == 403
    assert client.get("/").status_code == 302


@pytest.mark.parametrize(
    "address", ["/", "/models", "/datasets", "/trainings/new", "/api/v1/trainings"]
)
def test_nothing_is_shown_to_strangers(client: Client, address: str) -> None:
    assert client.get(address).status_code in (302, 401)


def test_the_local_user_has_no_password(client: Client) -> None:
    login_link()
    assert not User.objects.get(username="local").has_usable_password()


def test_health_says_what_does_not_answer(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from redis.exceptions import ConnectionError as Gone

    from workers import broker

    def refuse(*_: object, **__: object) -> None:
        raise Gone("no")

    monkeypatch.setattr(broker.broker().client, "ping", refuse)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["redis"]) == (503, "unreachable")
    assert client.get("/healthz").status_code == 200
