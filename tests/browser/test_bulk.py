"""Cards chosen by mouse and keys, and what is done to all of them at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Studio

pytestmark = pytest.mark.browser


@pytest.fixture
def page(stage: Studio, visit: Callable[..., Any]) -> Any:
    """Three failed runs and one that waits."""
    stage.python(
        "from trainings.models import Training; from tests.browser import rows; "
        "Training.objects.all().delete(); "
        "[rows.failed(f'failed {n}') for n in range(3)]; rows.waiting('waiting')"
    )
    opened = visit(stage)
    opened.get_by_role("checkbox", name="Select waiting").wait_for()
    opened.evaluate("window.sameDocument = true")
    return opened


def test_cards_are_chosen_by_keys_and_deleted_together(
    page: Any, picture: Callable[..., None]
) -> None:
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.get_by_text("1 selected").wait_for()
    for key in ("j", "j", "Shift+X"):
        page.keyboard.press(key)
    page.get_by_text("3 selected").wait_for()
    picture(page, "trainings-selected-1440-light")
    page.get_by_role("button", name="Bulk Delete").click()
    dialog = page.locator("dialog[open]")
    dialog.get_by_text("failed 2").wait_for()
    picture(page, "bulk-delete-1440-light")
    dialog.get_by_role("button", name="Delete 3").click()
    page.get_by_text("3 trainings being deleted").wait_for()
    page.locator("dialog[open]").wait_for(state="detached")
    assert page.locator("[data-run]").count() == 1
    assert page.locator("#picked").is_hidden()
    assert page.evaluate("window.sameDocument")


def test_boxes_are_ticked_up_to_another_and_retried(page: Any) -> None:
    page.get_by_role("checkbox", name="Select waiting").check()
    page.get_by_role("checkbox", name="Select failed 1").click(modifiers=["Shift"])
    page.get_by_text("3 selected").wait_for()
    page.get_by_role("button", name="Retry", exact=True).click()
    dialog = page.locator("dialog[open]")
    dialog.get_by_text("Only a failed or stopped training can be tried again.").wait_for()
    dialog.get_by_role("button", name="Retry 2").click()
    page.get_by_text("2 trainings queued again.").wait_for()
    page.get_by_text("Queued behind 2 runs").wait_for()
    assert page.evaluate("window.sameDocument")


def test_nothing_chosen_offers_whole_groups(page: Any, picture: Callable[..., None]) -> None:
    page.get_by_role("button", name="Bulk Delete").click()
    dialog = page.locator("dialog[open]")
    dialog.get_by_text("No training is selected").wait_for()
    picture(page, "bulk-empty-1440-light")
    dialog.get_by_role("link", name="Failed 3").click()
    dialog.get_by_role("button", name="Delete 3").wait_for()
    page.keyboard.press("Escape")
    page.locator("dialog[open]").wait_for(state="detached")
    assert page.locator("[data-run]").count() == 4


def test_what_was_read_before_an_action_does_not_arrive_after_its_answer(page: Any) -> None:
    """The cards as they were are held back until they are deleted: nothing comes back or breaks."""
    held: list[tuple[Any, Any]] = []

    def hold_the_first(route: Any) -> None:
        if held:
            route.continue_()
        else:
            held.append((route, route.fetch()))

    page.route("**/trainings/fragments*", hold_the_first)
    page.evaluate("document.dispatchEvent(new Event('run:started'))")  # makes it ask for all cards
    while not held:
        page.get_by_role("checkbox", name="Select waiting").is_checked()  # lets Playwright work
    page.get_by_role("checkbox", name="Select failed 1").check()
    page.get_by_role("button", name="Bulk Delete").click()
    page.locator("dialog[open]").get_by_role("button", name="Delete 1").click()
    page.get_by_text("1 training being deleted").wait_for()
    route, older = held[0]
    with page.expect_request("**/trainings/fragments*"):  # asked again, behind the action
        route.fulfill(response=older)
    assert page.locator("[data-run]").count() == 3
