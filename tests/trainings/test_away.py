"""What ended while the user was away is told once, until they put it away."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.rows import a_training

pytestmark = pytest.mark.django_db
TITLE = "While you were away"


def left(client: Client, seconds: float) -> None:
    """The user last looked so long ago."""
    session: Any = client.session
    session["seen_at"] = time.time() - seconds
    session.save()


def ended(name: str, status: str = "completed", minutes_ago: int = 5, **columns: Any) -> None:
    when = timezone.now() - timedelta(minutes=minutes_ago)
    a_training(name=name, status=status, completed_at=when, **columns)


def page(client: Client) -> str:
    return client.get("/").content.decode()


def test_first_visit_and_a_short_break_tell_nothing(client: Client) -> None:
    ended("one")
    assert TITLE not in page(client)
    left(client, 60)
    assert TITLE not in page(client)


def test_what_ended_since_is_told_with_causes_until_put_away(client: Client) -> None:
    ended("good")
    ended("bad", "failed", error_message="The loss is <no> number.")
    ended("long-ago", minutes_ago=120)
    left(client, 3600)
    for _ in range(2):  # a reload does not lose it
        text = page(client)
        part = text[text.index(TITLE) : text.index("</section>", text.index(TITLE))]
        assert "1 h" in part
        assert "1 failed" in part
        assert "1 completed" in part
        assert part.index("bad") < part.index("good")
        assert "The loss is &lt;no&gt; number." in part
        assert "long-ago" not in part
    assert client.post(reverse("put_away")).status_code == 302
    assert TITLE not in page(client)


def test_what_ends_once_the_user_is_back_is_no_news(client: Client) -> None:
    ended("good")
    left(client, 3600)
    assert "1 completed" in page(client)
    a_training(name="later", status="failed", completed_at=timezone.now())
    text = page(client)
    assert "1 completed" in text
    assert "1 failed" not in text


def test_who_looks_at_another_page_is_not_away(client: Client) -> None:
    ended("good")
    left(client, 599)
    client.get(f"{reverse('fragments')}?ids=")
    assert client.session["seen_at"] > time.time() - 60
    assert TITLE not in page(client)


def test_nothing_ended_tells_nothing(client: Client) -> None:
    a_training(status="running")
    left(client, 3600)
    assert TITLE not in page(client)


def test_many_are_counted_and_few_named(client: Client) -> None:
    for number in range(8):
        ended(f"run {number}")
    left(client, 3600)
    text = page(client)
    assert "8 completed" in text
    assert "and 3 more" in text


def test_a_page_that_was_left_open_is_told_by_its_fragments(client: Client) -> None:
    ended("one")
    left(client, 3600)
    part = client.get(f"{reverse('fragments')}?ids=&list").content.decode()
    assert '<div id="away" hx-swap-oob="true">' in part
    assert TITLE in part
    assert TITLE not in client.get(f"{reverse('fragments')}?ids=").content.decode()
