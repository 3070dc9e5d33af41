"""The parts of a training's page: tabs, marks, notes, settings, report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.test_live import say
from tests.conftest import Studio, wait_for

pytestmark = pytest.mark.browser


@pytest.fixture
def page(stage: Studio, visit: Callable[..., Any], redis_server: str) -> Any:
    run = stage.python(
        "from trainings.models import Training; from tests.browser import rows; "
        "Training.objects.all().delete(); rows.failed(); print(rows.completed().pk)"
    ).strip()
    opened = visit(stage, f"/trainings/{run}", size=(1440, 1600))
    opened.locator(".chart.has-points").last.wait_for()
    return opened


def run_of(page: Any) -> str:
    return str(page.locator("[data-run]").get_attribute("data-run"))


def test_parts_are_shown_one_at_a_time_and_found_again(page: Any) -> None:
    page.get_by_role("tab", name="Charts").focus()
    page.keyboard.press("ArrowRight")
    page.get_by_text("latents fired on the held-out tokens").wait_for()
    assert page.locator("#charts").is_hidden()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.get_by_label("Tags").wait_for()
    page.get_by_role("tab", name="Log").click()
    page.get_by_text("Completed at step 1,000").wait_for()
    page.reload()
    page.get_by_text("Completed at step 1,000").wait_for()
    assert page.locator("#charts").is_hidden()
    page.get_by_role("tab", name="Charts").click()
    page.locator(".chart.has-points").last.wait_for()


def test_marks_are_drawn_and_grow_with_the_run(page: Any) -> None:
    marks = "id => document.getElementById(`card-${id}`).run.marks.map((m) => [m.kind, m.step])"
    found = page.evaluate(marks, run_of(page))
    assert ["checkpoint", 900] in found
    assert ["resumed", 600] in found
    assert ["resampled", 300] in found
    assert ["checkpoint", 800] not in found  # it was set aside
    say(run_of(page), 100, "checkpoint", step=950)
    wait_for(
        lambda: ["checkpoint", 950] in page.evaluate(marks, run_of(page)), "the new checkpoint"
    )
    near = "id => document.getElementById(`card-${id}`).run.curves[0].marksNear(600)"
    assert page.evaluate(near, run_of(page)) == ["Attempt 2 goes on from here (step 600)"]


def test_x_axis_by_training_time(page: Any) -> None:
    page.get_by_label("x axis").select_option("time")
    end = "id => document.getElementById(`card-${id}`).run.curves[0].chart.scales.x.max"
    # 1,000 steps of 512 tokens at some 5,400 a second.
    wait_for(lambda: 90 < page.evaluate(end, run_of(page)) < 100, "the time it took")
    label = page.locator("[data-chart=loss] canvas")
    wait_for(lambda: "Loss over training time" in str(label.get_attribute("aria-label")), "words")


def test_name_tags_and_notes_are_kept_and_found(page: Any) -> None:
    page.get_by_role("tab", name="Notes").click()
    page.get_by_label("Name").fill("my best run")
    page.get_by_label("Tags").fill("Best, x" + "y" * 60)
    page.get_by_role("button", name="Save").click()
    page.get_by_text("A tag has at most 50 characters").wait_for()
    assert page.locator("h1").text_content() != "my best run"
    page.get_by_label("Tags").fill("Best, sweep")
    page.get_by_role("textbox", name="Notes").fill("It <works>.")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Saved.").wait_for()
    assert page.locator("h1").text_content() == "my best run"
    page.locator(".card-tags").get_by_role("link", name="best").click()
    page.wait_for_url("**/?tag=best")
    assert page.locator("[data-run] h2").all_text_contents() == ["my best run"]
    page.locator(".tag-bar").get_by_role("link", name="best").click()
    wait_for(lambda: page.locator("[data-run]").count() == 2, "all runs again")
    page.locator(".sort summary").click()
    page.get_by_role("link", name="Lowest FVU").click()
    page.wait_for_url("**/?sort=fvu")
    assert page.locator("[data-run] h2").first.text_content().strip() == "my best run"


def test_settings_beside_another_runs(page: Any) -> None:
    page.get_by_role("link", name="Hyperparameters").click()
    dialog = page.locator("dialog[open]")
    dialog.get_by_text("changed from the default").wait_for()
    dialog.get_by_label("Compare with").select_option(label="smollm2-135m-l11-standard-16x")
    dialog.get_by_text("there 9,216").wait_for()
    assert dialog.get_by_label("Compare with").evaluate("e => e === document.activeElement")


def test_report_is_a_page_of_its_own(page: Any, tmp_path: Any) -> None:
    with page.expect_download() as saved:
        page.get_by_role("link", name="Report").click()
    path = tmp_path / saved.value.suggested_filename
    saved.value.save_as(path)
    fetched: list[str] = []
    alone = page.context.new_page()
    alone.on("request", lambda request: fetched.append(request.url))
    alone.goto(path.as_uri())
    alone.get_by_role("heading", name="Hyperparameters").wait_for()
    assert alone.locator("svg path.line").count() == 6
    assert fetched == [path.as_uri()]


def test_a_clone_is_started_from_the_filled_dialog(stage: Studio, page: Any) -> None:
    page.get_by_role("link", name="Clone").click()
    dialog = page.locator("dialog[open]")
    assert dialog.get_by_label("Steps", exact=True).input_value() == "1,000"
    dialog.get_by_role("button", name="Start").click()
    anyway = dialog.get_by_role("button", name="Start anyway")
    wait_for(lambda: anyway.count() or not dialog.count(), "an answer")
    if anyway.count():
        anyway.click()
    page.locator("dialog[open]").wait_for(state="detached")
    count = "from trainings.models import Training; print(Training.objects.count())"
    assert stage.python(count).strip() == "3"
