"""A training's report: one HTML file that needs nothing else."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.rows import a_training
from tests.trainings.test_training_page import with_points
from trainings.models import Sae, Training
from trainings.views.density import density
from trainings.views.drawing import FLOOR, LEFT, draw

pytestmark = pytest.mark.django_db


def report(client: Client, run: Training) -> str:
    answer = client.get(reverse("report", args=[run.pk]))
    assert answer.status_code == 200
    assert answer.headers["Content-Disposition"].endswith('-report.html"')
    return answer.content.decode()


class References(HTMLParser):
    """Everything a browser would fetch or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if "src" in values or tag in ("link", "img", "iframe"):
            self.found.append(tag)
        if tag == "script" and values.get("type") != "application/json":
            self.found.append(tag)


def test_report_holds_everything_and_fetches_nothing(client: Client, home: Any) -> None:
    run = with_points(range(1, 201), name="My run!", status="completed", notes="<i>odd</i>")
    counts = [0] * 30 + [5, 1]
    density = {"start": -8.0, "width": 0.25, "counts": counts, "never": 3}
    evaluation = {"fvu": 0.0591, "l0": 32.0, "tokens": 4096, "density": density}
    Sae.objects.create(training=run, path="/sae", format="saelens", step=200, evaluation=evaluation)
    run.attempt_folder(0).mkdir(parents=True)
    run.log_path.write_text("the last line\n")
    text = report(client, run)
    for part in ("0.0591", "My run!", "&lt;i&gt;odd&lt;/i&gt;", "the last line", "manage.py train"):
        assert part in text
    assert "<b>3</b>" not in text
    assert References(text).found == []
    points = re.search(r'<script id="points" type="application/json">(.*?)</script>', text)
    assert points
    assert len(json.loads(points[1])["loss"]) == 200
    assert "@import" not in text
    assert "url(" not in text


def test_report_of_a_run_without_anything(client: Client) -> None:
    assert "No points." in report(client, a_training())


def test_curve_leaves_gaps_and_stays_inside() -> None:
    found = draw("FVU", [(0, 1.0), (5, None), (10, 0.5), (20, 0.25)], 20)
    assert found
    assert found.path.count("M") == 2
    assert found.path.startswith(f"M{LEFT}.0 ")
    assert found.path.split(" M")[0].endswith("h0")  # a dot, not nothing
    heights = [float(text) for text in re.findall(r"[ML]\S+ ([\d.]+)", found.path)]
    assert all(0 < y <= FLOOR for y in heights)
    assert [value for _, value in found.x_ticks] == [0, 5, 10, 15, 20]
    assert not found.log


@pytest.mark.parametrize(
    ("points", "log"),
    [
        ([(0, 1000.0), (9, 1.0)], True),
        ([(0, 1000.0), (9, 0.0)], False),
        ([(0, 7.0)], False),
        ([(0, 0.0)], False),
        ([(0, -1.0), (9, 2.0)], False),
    ],
)
def test_curves_of_every_shape_can_be_drawn(points: list[Any], log: bool) -> None:
    found = draw("L0", points, 10)
    assert found
    assert found.log == log
    assert "nan" not in found.path


def test_nothing_is_drawn_of_no_values() -> None:
    assert draw("L0", [(1, None)], 10) is None


def test_density_begins_at_a_power_of_ten_and_keeps_every_latent() -> None:
    counts = [0] * 32
    counts[21], counts[31] = 7, 2  # from 10^-2.75 on, and from 10^-0.25 on
    evaluation = {"density": {"start": -8.0, "width": 0.25, "counts": counts, "never": 4}}
    found = density(Sae(evaluation=evaluation))
    assert found
    assert (found.alive, found.never, found.often) == (9, 4, 2)
    assert [text for _, text in found.drawing.ticks] == ["0.1 %", "1 %", "10 %", "100 %"]
    assert len(found.drawing.bars) == 12
    assert density(Sae(evaluation={})) is None
    assert density(None) is None
