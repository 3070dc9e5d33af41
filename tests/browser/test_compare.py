"""Runs side by side: chosen on the list, drawn over each other, followed live."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.rows import a_point
from tests.browser.test_live import say
from tests.conftest import Studio, wait_for

pytestmark = pytest.mark.browser
RUN = "smollm2-135m-l5-jumprelu-8x"


@pytest.fixture
def page(stage: Studio, visit: Callable[..., Any], redis_server: str) -> Any:
    """The list with one running, one completed and one failed run."""
    stage.python(
        "from trainings.models import Training; from tests.browser import rows; "
        "Training.objects.all().delete(); rows.failed(); rows.completed(); rows.running(step=500)"
    )
    opened = visit(stage, size=(1440, 2000))
    opened.locator(".chart.has-points").last.wait_for()
    return opened


@pytest.fixture
def compared(page: Any) -> Any:
    for box in page.get_by_role("checkbox").all():
        box.check()
    page.keyboard.press("Escape")
    page.locator("h1").click()
    page.keyboard.press("c")
    page.wait_for_url("**/compare?ids=*")
    page.locator(".chart.has-points").last.wait_for()
    return page


def lines(page: Any) -> list[int]:
    """How many points each line of the first chart has."""
    return list(
        page.evaluate(
            "() => document.querySelector('[data-run]').run.curves[0].shown.map((p) => p.length)"
        )
    )


def pareto(page: Any) -> str:
    return str(page.locator("[data-pareto-chart] canvas").get_attribute("aria-label"))


def test_too_few_are_not_compared_and_it_says_why(page: Any) -> None:
    page.get_by_role("button", name="Compare").click()
    page.get_by_text("none are selected").or_(page.get_by_text("none is selected")).wait_for()
    page.get_by_role("checkbox").first.check()
    page.get_by_role("button", name="Compare").click()
    page.get_by_text("1 is selected").wait_for()
    assert "/compare" not in page.url


def test_curves_lie_over_each_other_and_follow_the_run(stage: Studio, compared: Any) -> None:
    page = compared
    wait_for(lambda: sorted(lines(page)) == [42, 50, 100], "three lines")
    row = page.locator("tr[data-run]", has_text=RUN)
    run = row.get_attribute("data-run")
    page.evaluate("window.sameDocument = true")
    stage.python(
        "from trainings.models import Training; "
        f"Training.objects.filter(pk='{run}').update(current_step=510, "
        "latest={'loss': 0.4321, 'l0': 40.5, 'fvu': 0.111})"
    )
    seq = page.evaluate("id => document.getElementById(`card-${id}`).run.seq", run)
    point = {**a_point(510, 1000), "loss": 0.4321}
    say(str(run), seq + 1, "progress", points=[point])
    row.get_by_text("510/1,000").wait_for()
    row.get_by_role("cell", name="0.4321").wait_for()
    wait_for(lambda: sorted(lines(page)) == [42, 51, 100], "the new point")
    value = page.locator(f"[data-chart=loss] [data-value='{run}']")
    wait_for(lambda: value.text_content() == "0.4321", "the newest value")
    wait_for(lambda: f"{RUN}: FVU 0.111 at L0 40.5" in pareto(page), "its place in the plane")
    assert page.evaluate("window.sameDocument")


def test_pointer_reads_all_runs_and_axis_is_shared(compared: Any) -> None:
    page = compared
    box = page.locator("[data-chart=l0] canvas").bounding_box()
    values = page.locator("[data-chart=fvu] [data-value]")
    wait_for(lambda: "–" not in values.all_text_contents(), "all curves")
    before = values.all_text_contents()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    wait_for(lambda: values.all_text_contents() != before, "values where the pointer is")
    page.mouse.move(2, 2)
    wait_for(lambda: values.all_text_contents() == before, "the newest values")
    page.get_by_label("x axis").select_option("time")
    label = page.locator("[data-chart=fvu] canvas")
    wait_for(lambda: "over training time" in str(label.get_attribute("aria-label")), "another axis")
    page.get_by_label("Smoothing").fill("0.8")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save FVU over L0 as PNG").click()
    assert saved.value.suggested_filename == "compare-pareto.png"


def test_runs_are_taken_out_and_added(compared: Any) -> None:
    page = compared
    page.get_by_role("link", name=f"Take {RUN} out").click()
    wait_for(lambda: page.locator("tr[data-run]").count() == 2, "two runs")
    page.get_by_label("Training to add").select_option(label=f"{RUN} · running")
    page.get_by_role("button", name="Add").click()
    wait_for(lambda: page.locator("tr[data-run]").count() == 3, "three runs")
    page.get_by_role("link", name="that are the same, too").click()
    page.get_by_role("link", name="Show only what differs").wait_for()


def test_a_run_that_is_deleted_leaves(stage: Studio, compared: Any) -> None:
    page = compared
    run = page.locator("tr[data-run]", has_text=RUN).get_attribute("data-run")
    stage.python(
        "from trainings.models import Training; "
        f"Training.objects.filter(pk='{run}').update(delete_requested_at='2026-01-01T00:00Z')"
    )
    say(str(run), 10_000, "status")
    wait_for(lambda: page.locator("tr[data-run]").count() == 2, "two runs")
    page.locator(".chart.has-points").last.wait_for()
