"""What is sent to do harm: each a clear refusal, and nothing changed."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.test import Client
from django.urls import reverse

from saestudio import server
from saestudio.access import exposure
from saestudio.access.roles import Role
from templates_app.models import TrainingTemplate
from tests.conftest import Studio, run_async
from tests.people import somebody
from tests.rows import a_tokenization, a_training
from trainings.models import Training

MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&"
STRANGE = "\u202e\u0000\U0001f600 ; DROP TABLE trainings; --"


def started(**changes: Any) -> dict[str, Any]:
    return {
        "name": "a run",
        "tokenization_id": str(a_tokenization().pk),
        "layer": 1,
        "architecture": "standard",
        **changes,
    }


@pytest.fixture
def api(db: None, nudges: object) -> Client:
    client = Client()
    client.force_login(somebody())
    return client


def post(client: Client, body: Any, path: str = "trainings") -> Any:
    text = body if isinstance(body, str | bytes) else json.dumps(body)
    return client.post(f"/api/v1/{path}", text, content_type="application/json")


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ("{", 400, "body"),
        ("[" * 100_000 + "]" * 100_000, 400, "body"),
        ('{"name": NaN}', 400, "body"),
        ('{"name": "a", "layer": Infinity}', 400, "body"),
        (b"\xff\xfe\x00", 400, "body"),
        ("[]", 400, "body"),
        ("null", 400, "body"),
        ('"' + "x" * 1_100_000 + '"', 413, "body"),
    ],
)
def test_bodies_that_are_no_training(api: Client, body: Any, status: int, field: str) -> None:
    answer = post(api, body)
    assert answer.status_code == status, answer.content[:300]
    assert answer.json()["errors"][0]["field"] == field
    assert not Training.objects.exists()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"layer": -1}, "layer"),
        ({"layer": 10**30}, "layer"),
        ({"layer": "1; DROP TABLE trainings"}, "layer"),
        ({"priority": 10**9}, "priority"),
        ({"name": ""}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"tokenization_id": "../../etc/passwd"}, "tokenization_id"),
        ({"hyperparameters": {"num_steps": -5}}, "num_steps"),
        ({"hyperparameters": {"num_steps": 10**30}}, "num_steps"),
        ({"hyperparameters": {"batch_size": -1}}, "batch_size"),
        ({"hyperparameters": {"latent_dim": -64}}, "latent_dim"),
        ({"hyperparameters": {"learning_rate": "nan"}}, "learning_rate"),
        ({"hyperparameters": {"learning_rate": 1e999}}, "body"),
        ({"hyperparameters": {"adam_beta2": False}}, "adam_beta2"),
        ({"hyperparameters": {"num_steps": True}}, "num_steps"),
        ({"hyperparameters": {"__class__": 1}}, "__class__"),
        ({"hyperparameters": [1]}, "hyperparameters"),
        ({"architecture": MARKUP}, "architecture"),
    ],
)
def test_values_that_cannot_be(api: Client, changes: dict[str, Any], field: str) -> None:
    answer = post(api, started(**changes))
    assert answer.status_code in (400, 422)
    assert field in {error["field"] for error in answer.json()["errors"]}
    assert not Training.objects.exists()


def test_markup_in_every_text_is_shown_as_text(api: Client) -> None:
    """Names, notes, tags, errors, logs and templates, on every page that shows them."""
    run = a_training(name=MARKUP, status="failed", error_message=MARKUP, notes=MARKUP)
    TrainingTemplate.objects.create(name=MARKUP, description=MARKUP, hyperparameters={})
    answer = api.patch(
        f"/api/v1/trainings/{run.pk}",
        json.dumps({"tags": [MARKUP[:40]]}),
        content_type="application/json",
    )
    assert answer.status_code == 200
    run.log_path.parent.mkdir(parents=True, exist_ok=True)
    line = {"level": "INFO", "message": MARKUP, "time": "2026-01-01T00:00:00Z"}
    run.log_path.write_text(json.dumps(line) + "\n")
    pages = [
        "/",
        f"/?q={MARKUP}",
        f"/?tag={MARKUP}",
        "/templates",
        f"/compare?ids={run.pk}",
        *(
            reverse(name, args=[run.pk])
            for name in ("training", "hyperparameters", "delete", "retry", "report", "clone", "log")
        ),
    ]
    for page in pages:
        found = api.get(page)
        assert found.status_code == 200, page
        text = found.content.decode()
        assert "<script>alert" not in text, page
        assert "<img src=x" not in text, page


@pytest.mark.parametrize("text", [STRANGE, "%", "_", "\\", "'" * 50, "\U0001f600" * 50])
def test_strange_searches_find_nothing_and_break_nothing(api: Client, text: str) -> None:
    for page in ("/", "/admin/", "/compare"):
        assert api.get(page, {"q": text, "tag": text, "ids": text}).status_code in (200, 302)
    found = api.get("/api/v1/trainings", {"q": text, "tag": text})
    assert found.status_code in (200, 422)


def test_session_without_its_csrf_token_changes_nothing(db: None) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(somebody())
    run = a_training(status="running")
    answer = client.post(f"/api/v1/trainings/{run.pk}/stop")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (403, "csrf")
    assert client.post(reverse("stop", args=[run.pk])).status_code == 403
    run.refresh_from_db()
    assert not run.stop_requested_at


def test_eleventh_guess_of_a_password_is_not_looked_at(db: None) -> None:
    user = somebody()
    user.set_password("the right one")
    user.save()
    client = Client()

    def guess(password: str) -> int:
        typed = {"username": "ada", "password": password}
        return client.post(reverse("login"), typed).status_code

    found = [guess(f"wrong {n}") for n in range(10)]
    assert found[:9] == [200] * 9
    assert guess("the right one") == 429
    client.get(reverse("trainings"))
    assert "_auth_user_id" not in client.session


def test_guesses_of_the_old_password_end_as_those_at_the_login_do(db: None) -> None:
    user = somebody("ada")
    user.set_password("the right one")
    user.save()
    page = Client()
    page.force_login(user)

    def guess(password: str) -> Any:
        new = {"new_password1": "quite another one", "new_password2": "quite another one"}
        return page.post(reverse("password"), {"old_password": password, **new})

    assert [guess(f"wrong {n}").status_code for n in range(9)] == [422] * 9
    assert b"Too many" in guess("wrong 9").content
    assert b"Too many" in guess("the right one").content
    user.refresh_from_db()
    assert user.check_password("the right one")


@pytest.mark.parametrize(
    ("client", "fit", "reached"),
    [
        (("127.0.0.1", 1), False, True),
        (("::ffff:127.0.0.1", 1), False, True),
        (None, False, True),
        (("192.0.2.7", 1), False, False),
        (("::ffff:192.0.2.7", 1), False, False),
        (("192.0.2.7", 1), True, True),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.django_db(transaction=True)
def test_other_machines_reach_nothing_however_the_server_was_started(
    kind: str, client: Any, fit: bool, reached: bool
) -> None:
    if fit:
        admin = somebody("boss", Role.ADMIN)
        admin.set_password("a good one")
        admin.save()
    inside: list[Any] = []
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        inside.append(scope)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": kind, "client": client, "server": ("0.0.0.0", 8000)}
    run_async(exposure.Exposure(app)(scope, None, send))
    assert bool(inside) is reached
    if not reached and kind == "http":
        assert sent[0]["status"] == 403
        assert b"no administrator has a password" in sent[1]["body"]
    elif not reached:
        assert sent == [{"type": "websocket.close", "code": 4403}]


@pytest.mark.parametrize("address", ["0.0.0.0", "192.168.1.5", "::", "studio.example"])
def test_studio_is_not_shown_to_others_without_a_password(
    address: str, db: None, settings: Any
) -> None:
    assert "no administrator has a password" in exposure.refusal(address)
    admin = somebody("root", Role.ADMIN)
    admin.set_password("a good one")
    admin.save()
    assert exposure.refusal(address) == ""
    settings.SECRET_KEY = "short"
    assert "SAESTUDIO_SECRET_KEY" in exposure.refusal(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.9", "localhost", "::1", "[::1]"])
def test_this_machine_alone_needs_none(address: str, db: None) -> None:
    assert exposure.refusal(address) == ""


def test_security_headers_are_on_every_answer(api: Client) -> None:
    for page in ("/", "/login", "/api/v1/trainings", "/nothing/here"):
        headers = api.get(page).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "same-origin"
        assert "default-src 'none'" in headers["Content-Security-Policy"]


def answer_to(studio: Studio, head: str, chunks: int = 0) -> str:
    """What the server says to these bytes, while more of them may still be on their way."""
    place = urlsplit(studio.url)
    assert place.hostname
    assert place.port
    with socket.create_connection((place.hostname, place.port), timeout=30) as stream:
        stream.sendall(head.encode())
        try:
            for _ in range(chunks):
                stream.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        except ConnectionError:
            pass
        found = b""
        while part := stream.recv(65536):
            found += part
            if b"\r\n\r\n" in found and b"errors" in found:
                break
    return found.decode()


@pytest.mark.studio
def test_fifty_megabytes_are_refused_before_they_are_read(studio: Studio) -> None:
    head = "POST /api/v1/trainings HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    told = answer_to(studio, f"{head}Content-Length: {50 * 1024 * 1024}\r\n\r\n")
    assert told.startswith("HTTP/1.1 413")
    assert f"{server.MOST_BYTES:,}" in told
    told = answer_to(studio, f"{head}Transfer-Encoding: chunked\r\n\r\n", chunks=100)
    assert told.startswith("HTTP/1.1 413")


@pytest.mark.studio
def test_server_goes_on_after_such_a_request(studio: Studio) -> None:
    head = "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999\r\n\r\n"
    for _ in range(3):
        assert answer_to(studio, head).startswith("HTTP/1.1 413")
    assert studio.session().get(studio.url).status_code == 200
