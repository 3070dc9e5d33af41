"""A real service is told of ends, once it listens, and never of one it has heard."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db.models.functions import Now
from django.utils import timezone

from tests.rows import a_training
from trainings import webhook
from trainings.models import Sae, Training

pytestmark = pytest.mark.django_db


class Service:
    """What it was sent; it answers with `status`."""

    def __init__(self) -> None:
        self.status = 200
        self.heard: list[tuple[dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.heard.append((dict(self.headers), body))
                self.send_response(outer.status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/secret-path"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def service(settings: Any) -> Iterator[Service]:
    found = Service()
    settings.WEBHOOK_URL, settings.WEBHOOK_SECRET = found.url, "shh"
    settings.PUBLIC_URL = "https://studio.example"
    yield found
    found.server.shutdown()


def ended(**columns: Any) -> Training:
    """With the time as the database writes it, as every end has."""
    return a_training(**{"status": "completed", "completed_at": Now(), "attempt": 1, **columns})


def test_a_completed_run_is_told_signed_and_once(service: Service) -> None:
    run = ended(name="mine")
    evaluation = {"fvu": 0.0591, "l0": 32.0}
    Sae.objects.create(training=run, path="/s", format="saelens", step=9, evaluation=evaluation)
    webhook.tell()
    webhook.tell()
    [(headers, body)] = service.heard
    assert headers[webhook.SIGNATURE] == webhook.signature(body)
    told = json.loads(body)
    assert told["event"] == "training.completed"
    address = f"https://studio.example/trainings/{run.pk}"
    assert told["text"] == f"mine is completed: FVU 0.059 at L0 32.0 {address}"
    assert told["training"]["url"] == address


def test_a_failed_run_is_told_with_its_cause(service: Service) -> None:
    ended(name="mine", status="failed", error_message="The loss is no number.\nmore")
    webhook.tell()
    told = json.loads(service.heard[0][1])
    assert told["text"].startswith("mine failed: The loss is no number. https://")
    assert told["training"]["evaluation"] is None


@pytest.mark.parametrize("status", [500, 404, 302])
def test_what_the_service_did_not_take_stays_untold(
    service: Service, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    run = ended()
    service.status = status
    webhook.tell()
    assert [found.pk for found in webhook.untold()] == [run.pk]
    assert "secret-path" not in caplog.text
    service.status = 204
    webhook.tell()
    assert not webhook.untold()


def test_a_service_that_is_not_there_is_asked_again(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.WEBHOOK_URL = "http://127.0.0.1:9/secret-path"
    ended()
    webhook.tell()
    assert webhook.untold()
    assert "secret-path" not in caplog.text


def test_one_failure_ends_the_try_and_the_rest_waits(service: Service) -> None:
    ended()
    ended()
    service.status = 500
    webhook.tell()
    assert len(service.heard) == 1
    assert webhook.untold().count() == 2


def test_an_attempt_begun_meanwhile_is_not_taken_for_told(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ended()
    real = webhook.message

    def restarted_meanwhile(told: Training) -> dict[str, Any]:
        Training.objects.filter(pk=run.pk).update(attempt=2)
        return real(told)

    monkeypatch.setattr(webhook, "message", restarted_meanwhile)
    webhook.tell()
    assert [found.pk for found in webhook.untold()] == [run.pk]


def test_a_name_is_no_markup_for_the_service(service: Service) -> None:
    ended(name="<!channel> & co")
    webhook.tell()
    told = json.loads(service.heard[0][1])
    assert told["text"].startswith("&lt;!channel&gt; &amp; co is completed")
    assert told["training"]["name"] == "<!channel> & co"


@pytest.mark.parametrize("address", ["ftp://x/y", "x/y", "https://", "https://host:abc/y"])
def test_what_is_no_address_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    from saestudio.settings import _address

    monkeypatch.setenv("SAESTUDIO_WEBHOOK_URL", address)
    with pytest.raises(ImproperlyConfigured, match="SAESTUDIO_WEBHOOK_URL must be an address"):
        _address("SAESTUDIO_WEBHOOK_URL")


def test_a_run_that_ends_again_is_told_again(service: Service) -> None:
    run = ended(status="stopped", told_at=timezone.now() - timedelta(hours=1))
    assert [found.pk for found in webhook.untold()] == [run.pk]


def test_what_runs_was_deleted_or_ended_long_ago_is_no_news(service: Service) -> None:
    ended(completed_at=timezone.now() - timedelta(days=2))
    ended(delete_requested_at=timezone.now())
    a_training(status="running")
    assert not webhook.untold()


def test_without_an_address_nothing_is_told() -> None:
    ended()
    assert not webhook.untold()
