"""Every screen, light and dark, wide and narrow: it fits, and its picture goes to the docs."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Studio

pytestmark = pytest.mark.browser

# Colours do not move anything: all four are drawn only for the pictures.
VARIANTS = [("light", 1440), ("dark", 390)]
if os.environ.get("SAESTUDIO_WRITE_SCREENS") == "1":
    VARIANTS += [("dark", 1440), ("light", 390)]
PAGES = {
    "trainings-running": "/",
    "trainings-finished": "/?status=completed",
    "trainings-failed": "/?status=failed",
    "models": "/models",
    "datasets": "/datasets",
    "saes": "/saes",
    "cache": "/cache",
    "detail": "",
}
DIALOGS = {
    "start": "Start Training",
    "hyperparameters": "Hyperparameters",
    "retry": "Retry",
    "delete": "Delete",
}


def fits(page: Any) -> bool:
    """Nothing pushes the page wider than the window."""
    return bool(
        page.evaluate(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )
    )


@pytest.mark.parametrize(("scheme", "width"), VARIANTS)
@pytest.mark.parametrize("screen", PAGES)
def test_page_fits_its_window(
    gallery: Studio,
    visit: Callable[..., Any],
    picture: Callable[..., None],
    screen: str,
    scheme: str,
    width: int,
) -> None:
    page = visit(
        gallery, PAGES[screen] or "/?status=completed", color_scheme=scheme, size=(width, 3000)
    )
    if screen == "detail":
        page.locator("[data-run] h2 a").click()
        page.wait_for_url("**/trainings/*")
    if screen.startswith(("trainings", "detail")):
        page.locator(".chart.has-points").last.wait_for()
    page.set_viewport_size({"width": width, "height": 900})
    picture(page, f"{screen}-{width}-{scheme}", full_page=True)
    assert fits(page)


@pytest.mark.parametrize(("scheme", "width"), VARIANTS)
@pytest.mark.parametrize("screen", DIALOGS)
def test_dialog_opens_and_fits_its_window(
    gallery: Studio,
    visit: Callable[..., Any],
    picture: Callable[..., None],
    screen: str,
    scheme: str,
    width: int,
) -> None:
    page = visit(gallery, "/?status=failed", color_scheme=scheme, size=(width, 900))
    page.locator(".chart.has-points").wait_for()
    opener = page.get_by_role("link", name=DIALOGS[screen], exact=True)
    opener.click()
    page.locator("dialog[open]").wait_for()
    picture(page, f"{screen}-{width}-{scheme}")
    assert fits(page)
    page.keyboard.press("Escape")
    page.locator("dialog[open]").wait_for(state="detached")
    assert opener.evaluate("element => element === document.activeElement")


@pytest.mark.parametrize(("scheme", "width"), VARIANTS)
@pytest.mark.parametrize(("screen", "layer"), [("measured", "5"), ("measured-short", "6")])
def test_measurement_in_the_dialog_fits_its_window(
    gallery: Studio,
    visit: Callable[..., Any],
    picture: Callable[..., None],
    screen: str,
    layer: str,
    scheme: str,
    width: int,
) -> None:
    page = visit(gallery, "/?status=failed", color_scheme=scheme, size=(width, 900))
    page.locator(".chart.has-points").wait_for()
    page.get_by_role("link", name="Start Training", exact=True).click()
    page.get_by_label("Layer").select_option(layer)
    again = page.get_by_role("button", name="Measure again")
    again.scroll_into_view_if_needed()
    picture(page, f"start-{screen}-{width}-{scheme}")
    assert page.get_by_text("it may run out").count() == (layer == "6")
    assert fits(page)
    cut = "ps => ps.filter(p => p.scrollWidth > p.clientWidth).map(p => p.textContent)"
    assert page.locator(".review :is(dt, dd, p)").evaluate_all(cut) == []


@pytest.mark.parametrize(("scheme", "width"), VARIANTS)
def test_removing_what_is_kept_asks_first_and_fits_its_window(
    gallery: Studio,
    visit: Callable[..., Any],
    picture: Callable[..., None],
    scheme: str,
    width: int,
) -> None:
    page = visit(gallery, "/cache", color_scheme=scheme, size=(width, 900))
    page.get_by_role("link", name="Remove SmolLM2-135M, layer 6").click()
    page.get_by_text("No result is lost").wait_for()
    picture(page, f"cache-remove-{width}-{scheme}")
    assert fits(page)


@pytest.mark.parametrize(("scheme", "width"), VARIANTS)
def test_login_page_fits_its_window(
    empty: Studio,
    visit: Callable[..., Any],
    picture: Callable[..., None],
    scheme: str,
    width: int,
) -> None:
    page = visit(empty, "/", login=False, color_scheme=scheme, size=(width, 900))
    page.get_by_label("Password").wait_for()
    picture(page, f"login-{width}-{scheme}")
    assert fits(page)


@pytest.mark.parametrize(("scheme", "width"), VARIANTS)
def test_empty_page_says_what_is_missing(
    empty: Studio,
    visit: Callable[..., Any],
    picture: Callable[..., None],
    scheme: str,
    width: int,
) -> None:
    page = visit(empty, "/", color_scheme=scheme, size=(width, 900))
    page.get_by_role("button", name="Start the demo").wait_for()
    picture(page, f"trainings-empty-{width}-{scheme}")
    # Whether a worker listens depends on who else uses the tests' Redis.
    assert page.locator("#checklist .todo").count() >= 3
    assert fits(page)
