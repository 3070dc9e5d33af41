"""Every message of a real training's socket, held against docs/events.json."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.api.test_examples import token_of
from tests.conftest import ROOT, Studio
from tests.studio import Api
from trainings import events

pytestmark = pytest.mark.studio
SCHEMA = ROOT / "docs" / "events.json"
ENDS = ("completed", "failed", "stopped")


def heard(studio: Studio, pk: str, token: str) -> list[dict[str, Any]]:
    """All messages up to the run's end."""
    url = f"{studio.url.replace('http', 'ws')}/ws/training/{pk}"
    found: list[dict[str, Any]] = []
    with connect(url, additional_headers={"Authorization": f"Bearer {token}"}) as socket:
        while not found or found[-1]["event"] not in ENDS:
            found.append(json.loads(socket.recv(timeout=120)))
    return found


def test_the_schema_in_the_docs_is_that_of_the_code() -> None:
    assert json.loads(SCHEMA.read_text()) == events.schema()


def test_each_message_is_as_promised_and_none_is_missing(studio: Studio) -> None:
    api, token = Api(studio), token_of(studio)
    pk = api.start("heard", num_steps=1000, checkpoint_interval=1000, log_interval=100)
    found = heard(studio, pk, token)
    check = jsonschema_rs.Draft202012Validator(json.loads(SCHEMA.read_text()))
    for message in found:
        check.validate(message)
    names = [message["event"] for message in found]
    assert {"started", "progress", "checkpoint"} <= set(names)
    assert names[-1] == "completed"
    seqs = [message["seq"] for message in found]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    points = [p["step"] for m in found if m["event"] == "progress" for p in m["data"]["points"]]
    assert points == list(range(100, 1001, 100))


def test_a_run_that_is_stopped_in_the_queue_says_so(studio: Studio) -> None:
    api, token = Api(studio), token_of(studio)
    url = studio.url.replace("http", "ws")
    first = api.start("busy", num_steps=100_000)
    pk = api.start("queued", num_steps=1000)
    with connect(
        f"{url}/ws/training/{pk}", additional_headers={"Authorization": f"Bearer {token}"}
    ) as socket:
        assert api.post(pk, "stop") == 200
        message = json.loads(socket.recv(timeout=30))
    assert (message["event"], message["data"]["step"]) == ("stopped", 0)
    jsonschema_rs.validate(json.loads(SCHEMA.read_text()), message)
    for run in (first, pk):
        api.delete(run)


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer sae_none"}])
def test_strangers_are_told_to_log_in(studio: Studio, header: dict[str, str]) -> None:
    url = f"{studio.url.replace('http', 'ws')}/ws/trainings"
    with connect(url, additional_headers=header) as socket, pytest.raises(ConnectionClosed):
        socket.recv(timeout=30)
    assert socket.close_code == 4401
