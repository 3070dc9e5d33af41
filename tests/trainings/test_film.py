"""The frames of the density film: written as they come, kept over a resume, told to the page."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from tests.rows import a_training
from trainings.models import Training
from workers.recorder import Recorder

pytestmark = pytest.mark.django_db


def frame(step: int, never: int = 0) -> dict[str, Any]:
    density = {"start": -8.0, "width": 0.25, "counts": [0] * 31 + [9], "never": never}
    return {"event": "density", "step": step, "tokens": step * 10, "density": density}


def started(resumed_from: int | None) -> dict[str, Any]:
    return {"event": "started", "step": resumed_from or 0, "resumed_from": resumed_from}


def write(training: Training, *events: dict[str, Any]) -> None:
    recorder = Recorder(training.pk, training.attempt)
    for event in events:
        recorder.take(event)
    recorder.flush()


def steps(client: Client, training: Training) -> list[int]:
    answer = client.get(f"/trainings/{training.pk}/film")
    return [each["step"] for each in answer.json()["frames"]]


def test_frames_come_in_order_and_are_made_again_after_a_resume(client: Client) -> None:
    training = a_training(status="running", attempt=1)
    write(training, started(None), frame(10), frame(20), frame(30))
    assert steps(client, training) == [10, 20, 30]
    write(training, started(20))
    assert steps(client, training) == [10, 20]
    write(training, frame(30, never=3))
    found = client.get(f"/trainings/{training.pk}/film").json()
    assert found["frames"][-1] == {
        "step": 30,
        "tokens": 300,
        "never": 3,
        "counts": [0] * 31 + [9],
    }
    assert (found["start"], found["width"]) == (-8.0, 0.25)
    write(training, started(None))
    assert steps(client, training) == []


def test_a_training_without_frames_has_an_empty_film(client: Client) -> None:
    assert steps(client, a_training()) == []
