"""Measuring before the start, in the dialog: no reload, once, and for what is typed there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.test_pages import count_trainings, open_start
from tests.conftest import Studio

pytestmark = pytest.mark.browser
COUNT = "from trainings.models import Rehearsal; print(Rehearsal.objects.count())"
MEASURE = "Measure on this machine"
# Twice in one breath, in the very moment in which an answer has drawn the button anew.
PRESS_AT_ONCE = """
() => {
  const place = document.querySelector("dialog");
  const old = place.querySelector(".measure button");
  const press = (_, watch) => {
    const button = place.querySelector(".measure button");
    if (!button || button === old) return;
    watch.disconnect();
    button.click();
    button.click();
  };
  new MutationObserver(press).observe(place, { childList: true, subtree: true });
}
"""


@pytest.fixture
def clean(stage: Studio) -> Studio:
    """The stage without any training or measurement, and with one tokenization to choose."""
    stage.python(
        "from trainings.models import Rehearsal, Tokenization, Training; "
        "Training.objects.all().delete(); Rehearsal.objects.all().delete(); "
        "Tokenization.objects.exclude(context_length=256).delete()"
    )
    return stage


def fill(dialog: Any, label: str, value: str) -> None:
    field = dialog.get_by_label(label, exact=True)
    field.fill(value)
    field.blur()


def test_measuring_shows_its_figures_without_a_reload_and_remembers_them(
    studio: Studio, visit: Callable[..., Any]
) -> None:
    before = int(studio.python(COUNT))
    page = visit(studio)
    page.evaluate("window.sameDocument = true")
    dialog = open_start(page)
    fill(dialog, "Name", "not yet")
    page.evaluate(PRESS_AT_ONCE)
    fill(dialog, "Batch size", "512")
    dialog.get_by_text("Measured time").wait_for(timeout=300_000)
    assert dialog.get_by_text("ms each").is_visible()
    assert dialog.get_by_text("ago on the").is_visible()

    fill(dialog, "Batch size", "1024")
    dialog.get_by_role("button", name=MEASURE).wait_for()
    assert dialog.get_by_text("Measured time").count() == 0
    assert dialog.get_by_label("Name", exact=True).input_value() == "not yet"
    fill(dialog, "Batch size", "512")
    dialog.get_by_role("button", name="Measure again").wait_for()
    assert page.evaluate("window.sameDocument")
    assert int(studio.python(COUNT)) == before + 1


def test_changing_a_field_leaves_a_measurement_under_way_behind(
    clean: Studio, visit: Callable[..., Any]
) -> None:
    dialog = open_start(visit(clean))
    dialog.get_by_role("button", name=MEASURE).click()
    dialog.get_by_text("Waiting for a worker to measure it").wait_for()
    fill(dialog, "Steps", "2000")
    dialog.get_by_role("button", name=MEASURE).wait_for()
    clean.python("from tests.browser import rows; rows.measured()")
    # The poll of the other configuration, had it gone on, would have shown its result here.
    fill(dialog, "Steps", "100000")
    dialog.get_by_text("Measured time").wait_for(timeout=180_000)
    fill(dialog, "Steps", "2000")
    dialog.get_by_text("Measured time").wait_for(state="detached")


def test_closed_dialog_asks_no_more(clean: Studio, visit: Callable[..., Any]) -> None:
    page = visit(clean)
    page.clock.install()
    dialog = open_start(page)
    with page.expect_response("**/measured/*"):
        dialog.get_by_role("button", name=MEASURE).click()
    page.keyboard.press("Escape")
    page.locator("dialog[open]").wait_for(state="detached")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.run_for(5000)
    page.wait_for_function("true")
    assert not [url for url in asked if "/measured/" in url]


def test_enter_in_a_field_starts_and_measures_nothing(
    clean: Studio, visit: Callable[..., Any]
) -> None:
    page = visit(clean)
    open_start(page).get_by_label("Name", exact=True).press("Enter")
    page.locator("[data-run]").wait_for()
    assert int(clean.python(COUNT)) == 0


def test_measuring_works_without_scripts(clean: Studio, visit: Callable[..., Any]) -> None:
    page = visit(clean, "/trainings/new", java_script_enabled=False)
    page.get_by_label("Name", exact=True).fill("plain")
    page.get_by_label("Steps", exact=True).fill("2000")
    page.get_by_role("button", name=MEASURE).click()
    page.get_by_text("Waiting for a worker to measure it").wait_for()
    clean.python("from tests.browser import rows; rows.measured(num_steps=2000)")
    page.get_by_role("link", name="Reload the page").click()
    page.get_by_text("Measured time").wait_for(timeout=180_000)
    assert page.get_by_label("Name", exact=True).input_value() == "plain"
    assert page.get_by_label("Steps", exact=True).input_value() == "2000"
    assert count_trainings(clean) == 0
