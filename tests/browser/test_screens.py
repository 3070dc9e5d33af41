"""Every screen, light and dark, wide and narrow: it fits, is accessible, and is drawn for the docs.

A screen is opened once and looked at in each variant.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.conftest import Studio, wait_for

pytestmark = pytest.mark.browser

WIDE, NARROW = 1440, 390
# Colours move nothing and widths change no colour: each of both is looked at once, unless all are
# drawn for the pictures.
VARIANTS = [("light", WIDE), ("dark", NARROW)]
if os.environ.get("SAESTUDIO_WRITE_SCREENS") == "1":
    VARIANTS += [("dark", WIDE), ("light", NARROW)]
PAGES = {
    "trainings-running": "/",
    "trainings-finished": "/?status=completed",
    "trainings-failed": "/?status=failed",
    "models": "/models",
    "datasets": "/datasets",
    "saes": "/saes",
    "saes-import": "/saes/import",
    "workers": "/workers",
    "cache": "/cache",
    "templates": "/templates",
    "templates-import": "/templates/import",
    "account": "/account",
    "compare-empty": "/compare",
    "nothing-fits": "/?q=nothing+has+this+name",
    "not-found": "/nowhere",
}
DIALOGS = {
    "start": "Start Training",
    "hyperparameters": "Hyperparameters",
    "retry": "Retry",
    "clone": "Clone",
    "delete": "Delete",
}
TABS = ("Charts", "Features", "Checkpoints", "Log", "Configuration", "Notes")


def fits(page: Any) -> bool:
    """Nothing pushes the page wider than the window."""
    return bool(
        page.evaluate(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )
    )


def drawn(page: Any, charts: int) -> None:
    """Wait until so many charts have their curves."""
    wait_for(lambda: page.locator(".chart.has-points").count() == charts, "the curves")


def barriers(page: Any) -> list[str]:
    """What axe calls serious or critical, with the elements it means."""
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {rule['help']} {[node['html'][:160] for node in rule['nodes']]}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]


@pytest.fixture
def seen(picture: Callable[..., None]) -> Callable[..., None]:
    """Look at an open page in every variant, scrolled to an element of it if one is named."""

    def look(page: Any, name: str, *, height: int = 900, at: Any = None, **options: Any) -> None:
        for scheme, width in VARIANTS:
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            page.set_viewport_size({"width": width, "height": height})
            if at:
                at.evaluate("element => element.scrollIntoView()")
            page.evaluate("() => new Promise((done) => requestAnimationFrame(() => done()))")
            picture(page, f"{name}-{width}-{scheme}", **options)
            assert fits(page), (name, width)
            assert barriers(page) == [], (name, scheme, width)

    return look


@pytest.mark.parametrize("screen", PAGES)
def test_page(
    gallery: Studio, visit: Callable[..., Any], seen: Callable[..., None], screen: str
) -> None:
    page = visit(gallery, PAGES[screen], size=(WIDE, 3000))
    if screen.startswith("trainings"):
        drawn(page, 3 if screen == "trainings-running" else 1)
    seen(page, screen, full_page=True)


def test_training(gallery: Studio, visit: Callable[..., Any], seen: Callable[..., None]) -> None:
    page = visit(gallery, "/?status=completed", size=(WIDE, 3000))
    page.locator("[data-run] h2 a").click()
    page.wait_for_url("**/trainings/*")
    drawn(page, 6)
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()
        name = "detail" if tab == "Charts" else f"detail-{tab.lower()}"
        seen(page, name, full_page=True)


def test_comparison(gallery: Studio, visit: Callable[..., Any], seen: Callable[..., None]) -> None:
    page = visit(gallery, "/", size=(WIDE, 3000))
    for box in page.get_by_role("checkbox").all():
        box.check()
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url("**/compare?ids=*")
    drawn(page, 6)
    seen(page, "compare", full_page=True)


def test_sweep(stage: Studio, visit: Callable[..., Any], seen: Callable[..., None]) -> None:
    stage.python(
        "from trainings.models import *; from tests.browser import rows; "
        "Training.objects.all().delete(); Sweep.objects.all().delete(); rows.sweep()"
    )
    page = visit(stage, "/sweeps")
    seen(page, "sweeps", full_page=True)
    page.get_by_role("link", name="smollm2-135m-l5-sweep").click()
    drawn(page, 1)
    seen(page, "sweep", full_page=True)
    page.get_by_role("link", name="Add trainings").click()
    page.locator("dialog[open]").wait_for()
    seen(page, "sweep-add")
    page.goto(stage.url)
    page.get_by_role("link", name="Start Training", exact=True).click()
    dialog = page.locator("dialog[open]")
    dialog.get_by_text("Vary settings").click()
    dialog.get_by_label("Vary L1 alpha").fill("0.001, 0.002, 0.004")
    dialog.get_by_label("Vary L1 alpha").blur()
    dialog.get_by_text("3 trainings", exact=True).wait_for()
    seen(page, "start-sweep", at=dialog.locator("#start-grid summary"))


@pytest.mark.parametrize("screen", DIALOGS)
def test_dialog(
    gallery: Studio, visit: Callable[..., Any], seen: Callable[..., None], screen: str
) -> None:
    page = visit(gallery, "/?status=failed")
    page.locator(".chart.has-points").wait_for()
    opener = page.get_by_role("link", name=DIALOGS[screen], exact=True)
    opener.click()
    page.locator("dialog[open]").wait_for()
    seen(page, screen)
    page.keyboard.press("Escape")
    page.locator("dialog[open]").wait_for(state="detached")
    assert opener.evaluate("element => element === document.activeElement")


def test_keys(gallery: Studio, visit: Callable[..., Any], seen: Callable[..., None]) -> None:
    page = visit(gallery, "/saes")
    page.keyboard.press("?")
    page.locator("dialog[open]").get_by_text("compare those that are selected").wait_for()
    seen(page, "keys")


@pytest.mark.parametrize(("screen", "layer"), [("measured", "5"), ("measured-short", "6")])
def test_measurement_in_the_dialog(
    gallery: Studio,
    visit: Callable[..., Any],
    seen: Callable[..., None],
    screen: str,
    layer: str,
) -> None:
    page = visit(gallery, "/?status=failed")
    page.locator(".chart.has-points").wait_for()
    page.get_by_role("link", name="Start Training", exact=True).click()
    page.get_by_label("Layer").select_option(layer)
    page.get_by_role("button", name="Measure again").scroll_into_view_if_needed()
    seen(page, f"start-{screen}")
    assert page.get_by_text("it may run out").count() == (layer == "6")
    cut = "ps => ps.filter(p => p.scrollWidth > p.clientWidth).map(p => p.textContent)"
    assert page.locator(".review :is(dt, dd, p)").evaluate_all(cut) == []


def test_removing_what_is_kept_asks_first(
    gallery: Studio, visit: Callable[..., Any], seen: Callable[..., None]
) -> None:
    page = visit(gallery, "/cache")
    page.get_by_role("link", name="Remove SmolLM2-135M, layer 6").click()
    page.get_by_text("No result is lost").wait_for()
    seen(page, "cache-remove")


def test_login(empty: Studio, visit: Callable[..., Any], seen: Callable[..., None]) -> None:
    page = visit(empty, "/", login=False)
    page.get_by_label("Password").wait_for()
    seen(page, "login")


def test_empty_page_says_what_is_missing(
    empty: Studio, visit: Callable[..., Any], seen: Callable[..., None]
) -> None:
    page = visit(empty, "/")
    page.get_by_role("button", name="Start the demo").wait_for()
    seen(page, "trainings-empty")
    # Whether a worker listens depends on who else uses the tests' Redis.
    assert page.locator("#checklist .todo").count() >= 3
