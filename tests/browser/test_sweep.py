"""Sweeps: filled in, started once, followed on their page, added to, stopped and deleted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from tests.browser.test_live import say
from tests.conftest import Studio, wait_for

pytestmark = pytest.mark.browser


@pytest.fixture
def clean(stage: Studio) -> Studio:
    stage.python(
        "from trainings.models import *; Training.objects.all().delete(); "
        "Sweep.objects.all().delete()"
    )
    return stage


@pytest.fixture
def page(clean: Studio, visit: Callable[..., Any], redis_server: str) -> Any:
    """The page of a sweep of six that runs, one of them waiting."""
    sweep = clean.python("from tests.browser import rows; print(rows.sweep().pk)").strip()
    opened = visit(clean, f"/sweeps/{sweep}")
    opened.locator(".chart.has-points").wait_for()
    opened.evaluate("window.sameDocument = true")
    return opened


def plane(page: Any) -> str:
    return str(page.locator("[data-pareto-chart] canvas").get_attribute("aria-label"))


def row(page: Any, alpha: str) -> Any:
    return page.locator("tr[data-run]", has=page.get_by_role("link", name=f"{alpha} smollm2"))


def test_a_sweep_is_filled_in_started_once_and_followed_on_its_page(
    clean: Studio, visit: Callable[..., Any]
) -> None:
    page = visit(clean)
    page.get_by_role("link", name="Start Training", exact=True).click()
    dialog = page.locator("dialog[open]")
    dialog.get_by_text("Vary settings").click()
    field = dialog.get_by_label("Vary L1 alpha")
    field.fill("0.001, 0.002, much")
    field.blur()
    dialog.locator("#start-vary_l1_alpha_error").get_by_text("Write a number").wait_for()
    field.fill("0.001, 0.002, 0.004")
    field.blur()
    dialog.get_by_text("3 trainings", exact=True).wait_for()
    dialog.get_by_label("Vary seed").fill("1,2")
    dialog.get_by_label("Vary target L0").focus()
    dialog.get_by_text("6 trainings", exact=True).wait_for()
    assert page.evaluate("document.activeElement.id") == "start-vary_target_l0"
    start = dialog.get_by_role("button", name="Start 6 trainings")
    start.evaluate("button => { button.click(); button.click() }")
    # Not for the address: where both presses lead there, the second cuts off the first.
    page.get_by_text("6 pending").wait_for()
    assert "/sweeps/" in page.url
    assert page.locator("tr[data-run]").count() == 6
    made = "from trainings.models import *; print(Sweep.objects.count(), Training.objects.count())"
    assert clean.python(made).split() == ["1", "6"]


def test_the_page_follows_its_trainings(clean: Studio, page: Any) -> None:
    run = row(page, "0.0005").get_attribute("data-run")
    assert row(page, "0.0005").get_by_text("beaten").count() == 0
    clean.python(
        "from trainings.models import Training; "
        f"Training.objects.filter(pk='{run}').update(current_step=510, "
        "latest={'loss': 0.4321, 'l0': 200.5, 'fvu': 0.5})"
    )
    seq = page.evaluate("id => document.getElementById(`card-${id}`).run.seq", run)
    say(str(run), seq + 1, "progress", points=[{"step": 510}])
    row(page, "0.0005").get_by_role("cell", name="0.4321").wait_for()
    row(page, "0.0005").get_by_text("510/1,000").wait_for()
    row(page, "0.0005").get_by_text("beaten").wait_for()
    wait_for(lambda: "L1 alpha 0.0005: FVU 0.5 at L0 200.5" in plane(page), "its place")
    clean.python(
        "from trainings.models import Training; "
        f"Training.objects.filter(pk='{run}').update(status='completed')"
    )
    say(str(run), seq + 2, "completed")
    page.locator("#sweep-summary").get_by_text("2 completed").wait_for()
    assert page.evaluate("window.sameDocument")


def test_trainings_are_added_in_the_dialog(page: Any) -> None:
    page.get_by_role("link", name="Add trainings").click()
    dialog = page.locator("dialog[open]")
    field = dialog.get_by_label("Vary L1 alpha")
    field.fill("0.001")
    field.blur()
    dialog.locator("#add-grid_error").get_by_text("there 2 times").wait_for()
    field.fill("0.032, 0.064")
    field.blur()
    dialog.locator("#add-review").get_by_text("8 in all").wait_for()
    button = dialog.get_by_role("button", name="Add 2 trainings")
    button.evaluate("button => { button.click(); button.click() }")
    page.get_by_text("2 trainings were added.").wait_for()
    assert page.locator("tr[data-run]").count() == 8


def test_what_another_tab_adds_and_deletes_comes_and_goes_without_a_reload(
    clean: Studio, page: Any
) -> None:
    row(page, "0.004").get_by_role("checkbox").check()
    clean.python(
        "from trainings.models import *; from trainings import sweeps; "
        "sweep = Sweep.objects.get(); runs = sweeps.in_order(list(sweep.trainings.all())); "
        "sweeps.add(sweep, sweeps.Asked({}, {'seed': ['7']})); "
        "Training.objects.filter(pk=runs[0].pk).update(delete_requested_at='2026-01-01T00:00Z')"
    )
    say(str(uuid4()), 1, "completed")
    page.get_by_role("columnheader", name="Seed", exact=True).wait_for()
    assert page.locator("tr[data-run]").count() == 6
    assert row(page, "0.0005").count() == 0
    assert row(page, "0.004").get_by_role("checkbox").is_checked()
    page.get_by_text("1 selected").wait_for()
    assert page.evaluate("window.sameDocument")


def test_chosen_rows_are_compared_or_all_of_a_few(clean: Studio, page: Any) -> None:
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url("**/compare?ids=*")
    assert page.url.count(",") == 5
    page.go_back()
    for alpha in ("0.001", "0.004"):
        row(page, alpha).get_by_role("checkbox").check()
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url("**/compare?ids=*")
    assert page.url.count(",") == 1
    clean.python(
        "from trainings.models import *; from trainings import sweeps; "
        "sweeps.add(Sweep.objects.get(), sweeps.Asked({}, {'seed': ['7', '8', '9']}))"
    )
    page.go_back()
    page.reload()
    page.get_by_role("button", name="Compare").click()
    page.get_by_text("Select two to 8 trainings to compare; none are selected.").wait_for()
    assert "/sweeps/" in page.url


def test_what_is_better_than_the_model_itself_has_its_place_in_the_plane(
    clean: Studio, page: Any
) -> None:
    clean.python(
        "from trainings.models import Sae; sae = Sae.objects.get(); "
        "sae.evaluation['ce_recovered'] = 1.02; sae.save()"
    )
    page.reload()
    canvas = page.locator("[data-pareto-chart=ceLost].has-points canvas")
    canvas.wait_for()
    assert canvas.evaluate("canvas => Chart.getChart(canvas).scales.y.min") <= -0.02


def test_a_chosen_row_is_stopped_and_retried_alone(page: Any) -> None:
    row(page, "0.016").get_by_role("link").focus()
    page.keyboard.press("x")
    page.get_by_role("button", name="Stop", exact=True).click()
    page.locator("dialog[open]").get_by_role("button", name="Stop 1").click()
    page.locator("#sweep-summary").get_by_text("1 stopped").wait_for()
    row(page, "0.016").get_by_role("checkbox").check()
    page.get_by_role("button", name="Retry").click()
    page.locator("dialog[open]").get_by_role("button", name="Retry 1").click()
    page.locator("#sweep-summary").get_by_text("1 pending").wait_for()


def test_all_are_stopped_and_deleted_from_its_page(page: Any) -> None:
    page.get_by_role("button", name="Stop all").click()
    page.locator("dialog[open]").get_by_role("button", name="Stop 5").click()
    page.locator("dialog[open]").wait_for(state="detached")
    page.locator("#sweep-summary").get_by_text("4 stopping").wait_for()
    page.locator("#sweep-summary").get_by_text("1 stopped").wait_for()
    page.get_by_role("button", name="Delete all").click()
    page.locator("dialog[open]").get_by_role("button", name="Delete 6").click()
    page.wait_for_url("**/sweeps")
    page.get_by_role("heading", name="No sweep yet").wait_for()
