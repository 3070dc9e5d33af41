"""One training's page, its hyperparameters and its points."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.rows import a_training
from trainings.models import Checkpoint, Training, TrainingMetric

pytestmark = pytest.mark.django_db


def with_points(steps: range, **columns: Any) -> Training:
    run = a_training(**columns)
    TrainingMetric.objects.bulk_create(
        TrainingMetric(training=run, step=step, loss=1 / step, l0=5.0) for step in steps
    )
    return run


def points(client: Client, run: Training, query: str = "") -> Any:
    return json.loads(client.get(reverse("points", args=[run.pk]) + query).content)


def test_points_come_whole_by_series(client: Client) -> None:
    run = with_points(range(1, 4))
    answer = points(client, run)
    assert answer["series"]["loss"] == [[1, 1.0], [2, 0.5], [3, pytest.approx(1 / 3)]]
    assert answer["last_step"] == 3
    assert answer["seq"] == run.event_seq


def test_points_after_a_step_are_only_the_newer_ones(client: Client) -> None:
    answer = points(client, with_points(range(1, 10)), "?after_step=7")
    assert [step for step, _ in answer["series"]["loss"]] == [8, 9]


def test_point_that_is_not_finite_is_null(client: Client) -> None:
    run = with_points(range(1, 3))
    TrainingMetric.objects.filter(training=run, step=2).update(loss=None)
    assert points(client, run)["series"]["loss"][1] == [2, None]


def test_long_history_is_thinned(client: Client) -> None:
    answer = points(client, with_points(range(1, 3001)), "?max_points=100")
    assert len(answer["series"]["loss"]) <= 100


@pytest.mark.parametrize("query", ["?after_step=x", "?max_points=-3", "?max_points=1e9"])
def test_odd_limits_are_answered_all_the_same(client: Client, query: str) -> None:
    run = with_points(range(1, 3))
    assert client.get(reverse("points", args=[run.pk]) + query).status_code == 200


def test_page_shows_checkpoints_log_and_table(client: Client, home: Any) -> None:
    run = with_points(range(1, 4), attempt=1, status="completed")
    Checkpoint.objects.create(
        training=run, attempt=1, step=1000, path="/c", size_bytes=64_000_000, sha256="ab" * 32
    )
    run.attempt_folder(1).mkdir(parents=True)
    (run.attempt_folder(1) / "log.jsonl").write_text("first line\nlast line\n")
    page = client.get(reverse("training", args=[run.pk]) + "?table").content.decode()
    for part in ("64 MB", "abababababab", "last line", "0.3333"):
        assert part in page


def test_page_works_before_anything_was_logged(client: Client) -> None:
    page = client.get(reverse("training", args=[a_training().pk])).content.decode()
    assert "Nothing has been logged yet." in page


def test_long_log_shows_its_end_from_a_line_on(client: Client, home: Any) -> None:
    run = a_training(attempt=1, status="failed")
    run.attempt_folder(1).mkdir(parents=True)
    lines = "".join(f"line {number:06d}\n" for number in range(10_000))
    (run.attempt_folder(1) / "log.jsonl").write_text(lines)
    page = client.get(reverse("training", args=[run.pk])).content.decode()
    assert "line 009999" in page
    assert "line 000000" not in page


def test_points_are_exported_with_gaps_and_without_what_is_no_json(client: Client) -> None:
    run = with_points(range(1, 4), name="My run!")
    run.metrics.filter(step=2).update(loss=None, fvu=float("inf"))
    whole = client.get(reverse("export_points", args=[run.pk, "csv"]))
    assert whole.headers["Content-Disposition"] == 'attachment; filename="my-run.csv"'
    lines = b"".join(whole.streaming_content).decode().splitlines()  # type: ignore[attr-defined]
    assert lines[0].startswith("step,loss,l0,")
    assert (len(lines), lines[2].split(",")[:2]) == (4, ["2", ""])
    answer = client.get(reverse("export_points", args=[run.pk, "json"]))
    rows = json.loads(b"".join(answer.streaming_content))  # type: ignore[attr-defined]
    assert (rows[1]["loss"], rows[1]["fvu"], len(rows)) == (None, None, 3)
    assert client.get(reverse("export_points", args=[run.pk, "xml"])).status_code == 404
    nothing = client.get(reverse("export_points", args=[a_training().pk, "json"]))
    assert json.loads(b"".join(nothing.streaming_content)) == []  # type: ignore[attr-defined]


def test_log_of_each_attempt_can_be_read_and_downloaded(client: Client, home: Any) -> None:
    run = a_training(attempt=2, status="failed")
    for attempt in (1, 2):
        run.attempt_folder(attempt).mkdir(parents=True)
        run.log_of(attempt).write_text(f"of attempt {attempt}\n")
    url = reverse("log", args=[run.pk])
    assert "of attempt 2" in client.get(url).content.decode()
    assert "of attempt 1" in client.get(f"{url}?attempt=1").content.decode()
    for nonsense in ("0", "3", "-1", "x", "../1"):
        assert "of attempt 2" in client.get(url, {"attempt": nonsense}).content.decode()
    whole = client.get(f"{url}?attempt=1&download")
    assert b"".join(whole.streaming_content) == b"of attempt 1\n"  # type: ignore[attr-defined]
    assert "attachment" in whole.headers["Content-Disposition"]
    run.log_of(1).unlink()
    assert client.get(f"{url}?attempt=1&download").status_code == 404


def test_hyperparameters_are_marked_where_they_differ(client: Client) -> None:
    run = a_training(hyperparameters={"num_steps": 2000})
    page = client.get(reverse("hyperparameters", args=[run.pk])).content.decode()
    assert page.count("setting changed") == 1
    assert "default 100,000" in page


def test_hyperparameters_of_other_architectures_are_left_out(client: Client) -> None:
    run = a_training(architecture="jumprelu")
    page = client.get(reverse("hyperparameters", args=[run.pk])).content.decode()
    assert "L0 alpha" in page
    assert "L1 alpha" not in page


def test_command_starts_the_same_training(client: Client) -> None:
    run = a_training(layer=2, hyperparameters={"num_steps": 2000, "gradient_clip": None})
    page = client.get(reverse("hyperparameters", args=[run.pk])).content.decode()
    assert (
        "manage.py train --model tiny-llama --dataset topics --layer 2 --architecture standard "
        "--set num_steps=2000 --set gradient_clip=null" in page
    )


def test_numbers_have_four_significant_figures() -> None:
    from trainings.templatetags.studio import number

    small = [number(value) for value in (0.0234, 45.2, 2.5e-5, 0, None, math.nan)]
    assert small == ["0.02340", "45.20", "2.500e-5", "0", "–", "–"]
    large = [number(value) for value in (999.96, 5446.1, 12_345.0, 3_200_000.0)]
    assert large == ["1000", "5,446", "12.35k", "3.200M"]


def a_checkpoint(run: Training, **columns: Any) -> Checkpoint:
    return Checkpoint.objects.create(
        training=run, attempt=1, step=1000, path="/c", size_bytes=1, sha256="ab" * 32, **columns
    )


def test_a_checkpoint_is_pinned_and_let_go_again(client: Client) -> None:
    run = a_training()
    kept = a_checkpoint(run, fvu=0.125)
    address = reverse("pin_checkpoint", args=[run.pk, kept.pk])
    for pinned, word in (("true", "Pinned"), ("false", "Pin")):
        answer = client.post(address, {"pinned": pinned}, headers={"HX-Request": "true"})
        page = answer.content.decode()
        assert f"{word}</span></button>" in page
        assert "0.125" in page
        kept.refresh_from_db()
        assert kept.pinned == (pinned == "true")
    assert client.post(address, {"pinned": "true"}).status_code == 302  # without scripts


def test_a_checkpoint_of_another_training_is_not_pinned(client: Client) -> None:
    other = a_checkpoint(a_training())
    client.post(reverse("pin_checkpoint", args=[a_training().pk, other.pk]), {"pinned": "true"})
    other.refresh_from_db()
    assert not other.pinned


def test_page_says_which_checkpoint_was_set_aside_and_why(client: Client) -> None:
    run = a_training()
    a_checkpoint(run, set_aside="state.json is missing")
    page = client.get(reverse("training", args=[run.pk])).content.decode()
    assert "Set aside: state.json is missing" in page
    assert "Pin</span>" not in page


def test_time_of_training_leaves_pauses_out(client: Client) -> None:
    run = a_training(hyperparameters={"num_steps": 2000, "batch_size": 1000})
    speeds = {10: 500.0, 20: 1000.0, 30: None, 40: 2000.0}
    TrainingMetric.objects.bulk_create(
        TrainingMetric(training=run, step=step, loss=1.0, tokens_per_second=speed)
        for step, speed in speeds.items()
    )
    whole = points(client, run)["series"]["elapsed"]
    assert whole == [[10, 20.0], [20, 30.0], [30, 30.0], [40, 35.0]]
    rest = points(client, run, "?after_step=20")["series"]["elapsed"]
    assert rest == [[30, 0.0], [40, 5.0]]


def test_marks_are_checkpoints_and_what_the_run_told(client: Client) -> None:
    told = {"kind": "resumed", "step": 500, "text": "Attempt 2 goes on from here"}
    run = a_training(attempt=2, marks=[told])
    a_checkpoint(run)
    Checkpoint.objects.create(
        training=run, attempt=1, step=7, path="/d", size_bytes=1, sha256="", set_aside="cut short"
    )
    found = points(client, run)["marks"]
    assert [(mark["kind"], mark["step"]) for mark in found] == [
        ("checkpoint", 1000),
        ("resumed", 500),
    ]


def test_parts_that_an_end_changes_come_alone(client: Client) -> None:
    run = a_training(status="running")
    a_checkpoint(run)
    address = reverse("panels", args=[run.pk])
    part = client.get(address).content.decode()
    assert '<span id="checkpoint-count" class="count" hx-swap-oob="true">1</span>' in part
    assert "is measured on held-out tokens at the end" in part
    Training.objects.filter(pk=run.pk).update(status="completed")
    assert "was not measured for this training" in client.get(address).content.decode()
