"""The curves of one training looked at closely: zoom, scale, smoothing, axis, crosshair, export."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.rows import a_point
from tests.browser.test_live import run, say, seq_of
from tests.conftest import Studio, wait_for

__all__ = ["run"]
pytestmark = pytest.mark.browser


@pytest.fixture
def page(
    stage: Studio,
    visit: Callable[..., Any],
    run: str,
    redis_server: str,
) -> Any:
    opened = visit(stage, f"/trainings/{run}", size=(1440, 1600))
    opened.locator(".chart.has-points").last.wait_for()
    opened.locator(".explore").wait_for()
    return opened


def curve(page: Any, run: str, path: str) -> Any:
    """Something of the first chart: `path` is JavaScript after `curve`."""
    return page.evaluate(
        f"id => {{ const curve = document.getElementById(`card-${{id}}`).run.curves[0]; "
        f"return curve{path}; }}",
        run,
    )


def drag(page: Any, metric: str, start: float, end: float) -> None:
    """Mark a part of a chart's width, 0 to 1."""
    box = page.locator(f"[data-chart={metric}] canvas").bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + start * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + (start + end) / 2 * box["width"], y)
    page.mouse.move(box["x"] + end * box["width"], y)
    page.mouse.up()


def test_all_charts_zoom_together_and_a_live_point_leaves_them(
    page: Any,
    run: str,
    picture: Callable[..., None],
) -> None:
    drag(page, "fvu", 0.3, 0.6)
    page.get_by_role("button", name="Reset zoom").wait_for()
    zoomed = wait_for(lambda: curve(page, run, ".chart.scales.x.min > 0"), "the zoom")
    assert zoomed
    low = curve(page, run, ".chart.scales.x.min")
    high = curve(page, run, ".chart.scales.x.max")
    assert 100 < low < high < 800
    point = a_point(510, 1000)
    say(run, seq_of(page, run) + 1, "progress", **point, points=[point])
    wait_for(lambda: curve(page, run, ".points.length") == 51, "the point")
    assert curve(page, run, ".chart.scales.x.min") == low
    picture(page, "detail-zoomed-1440-light", full_page=True)
    page.get_by_role("button", name="Reset zoom").click()
    wait_for(lambda: curve(page, run, ".chart.scales.x.min") == 0, "the whole")
    drag(page, "loss", 0.5, 0.7)
    wait_for(lambda: curve(page, run, ".chart.scales.x.min") > 0, "another zoom")
    page.keyboard.press("Escape")
    wait_for(lambda: curve(page, run, ".chart.scales.x.max") == 1000, "the whole")


def test_the_whole_comes_back_where_the_part_had_the_largest_value(page: Any, run: str) -> None:
    drag(page, "loss", 0.12, 0.5)  # from the very beginning
    wait_for(lambda: curve(page, run, ".chart.scales.x.max") < 800, "the zoom")
    page.get_by_role("button", name="Reset zoom").click()
    wait_for(lambda: curve(page, run, ".chart.scales.x.max") == 1000, "the whole")


def test_other_points_get_axes_of_their_own(page: Any, run: str) -> None:
    page.get_by_label("Scale").select_option("linear")
    wait_for(lambda: curve(page, run, ".chart.options.scales.y.type") == "linear", "linear")
    before = curve(page, run, ".chart.scales.y.max")
    # As a retry from scratch answers: other values, all at once.
    page.evaluate(
        """([id, share]) => {
          const run = document.getElementById(`card-${id}`).run;
          const series = Object.fromEntries(
            Object.keys(run.series).map((name) => [name, [[1, share], [2, share / 2]]]),
          );
          run.take({ series, marks: [], attempt: 9, last_step: 2, seq: run.seq }, -1);
        }""",
        [run, before / 100],
    )
    wait_for(lambda: curve(page, run, ".chart.scales.y.max") < before / 20, "smaller axes")


def test_scale_smoothing_and_axis_are_chosen_for_all(page: Any, run: str) -> None:
    page.get_by_label("Scale").select_option("log")
    wait_for(lambda: curve(page, run, ".chart.options.scales.y.type") == "logarithmic", "log")
    page.get_by_label("Scale").select_option("linear")
    wait_for(lambda: curve(page, run, ".chart.options.scales.y.type") == "linear", "linear")
    page.get_by_label("Smoothing").fill("0.9")
    wait_for(lambda: curve(page, run, ".chart.data.datasets[1].data.length") == 50, "the raw line")
    smooth = curve(page, run, ".chart.data.datasets[0].data[49].y")
    assert smooth > curve(page, run, ".points[49].y")  # it lags behind a falling loss
    page.get_by_label("Smoothing").fill("0")
    wait_for(lambda: curve(page, run, ".chart.data.datasets[1].data.length") == 0, "one line")
    page.get_by_label("x axis").select_option("tokens")
    batch = int(page.locator("[data-batch]").get_attribute("data-batch"))
    wait_for(lambda: curve(page, run, ".chart.scales.x.max") == 1000 * batch, "tokens")
    label = page.locator("[data-chart=loss] canvas")
    wait_for(lambda: "at token" in str(label.get_attribute("aria-label")), "its words")


def test_the_pointer_on_one_chart_is_shown_on_all(page: Any, run: str) -> None:
    box = page.locator("[data-chart=l0] canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 2)
    wait_for(lambda: curve(page, run, ".cross !== null"), "the crosshair")
    assert 200 < curve(page, run, ".cross") < 450
    page.mouse.move(2, 2)
    wait_for(lambda: curve(page, run, ".cross === null"), "its end")


def test_curves_leave_as_picture_and_as_points(
    page: Any,
    run: str,
    tmp_path: Any,
) -> None:
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save FVU as PNG").click()
    assert saved.value.suggested_filename.endswith("-fvu.png")
    assert saved.value.path().read_bytes().startswith(b"\x89PNG")
    for kind in ("CSV", "JSON"):
        with page.expect_download() as saved:
            page.locator(".explore-export").get_by_role("link", name=kind).click()
        text = saved.value.path().read_text()
        rows = list(csv.DictReader(text.splitlines())) if kind == "CSV" else json.loads(text)
        assert len(rows) == 50
        assert int(rows[-1]["step"]) == 500
        assert float(rows[-1]["loss"]) > 0
