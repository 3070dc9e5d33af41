"""A training seen without looking at the page: title, icon, notification; and the list of keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.rows import a_point
from tests.browser.test_live import loaded, run, say, seq_of
from tests.conftest import Studio, wait_for

__all__ = ["run"]
pytestmark = pytest.mark.browser
ICON = "document.querySelector('link[rel=icon]').href"
SPY = """
window.notes = [];
window.Notification = class {
  static permission = "granted";
  static async requestPermission() { return "granted"; }
  constructor(title, options) { window.notes.push([title, options.body]); }
  close() {}
};
Object.defineProperty(document, "hidden", { get: () => window.away === true });
"""


def test_title_and_icon_show_progress_until_the_end(
    stage: Studio,
    visit: Callable[..., Any],
    run: str,
    redis_server: str,
) -> None:
    page = visit(stage)
    loaded(page, run)
    assert page.title() == "50 % · Trainings · SAE Studio"
    assert page.evaluate(ICON).startswith("data:image/png")
    point = a_point(750, 1000)
    say(run, seq_of(page, run) + 1, "progress", **point, progress_pct=75.0, points=[point])
    wait_for(lambda: page.title().startswith("75 %"), "the title to follow")
    say(run, seq_of(page, run) + 1, "completed", sae_path=None, final_loss=0.1)
    wait_for(lambda: page.title() == "Trainings · SAE Studio", "the title to be plain again")
    assert page.evaluate(ICON).endswith(".svg")


def test_an_end_is_notified_where_that_is_wanted_and_the_page_is_away(
    stage: Studio,
    visit: Callable[..., Any],
    run: str,
    redis_server: str,
) -> None:
    page = visit(stage, "/saes")
    page.context.add_init_script(SPY)
    page.goto(stage.url)
    loaded(page, run)
    bell = page.get_by_role("button", name="Notify me when a training ends")
    assert bell.get_attribute("aria-pressed") == "false"
    bell.click()
    page.locator("[data-notify][aria-pressed=true]").wait_for()
    say(run, seq_of(page, run) + 1, "failed", error="x", step=1)
    wait_for(lambda: page.title() == "Trainings · SAE Studio", "the end")
    assert page.evaluate("window.notes") == []  # whoever looks at it sees it
    page.evaluate("window.away = true")
    say(run, seq_of(page, run) + 2, "completed", sae_path=None, final_loss=0.1)
    wait_for(lambda: page.evaluate("window.notes.length"), "the notification")
    assert page.evaluate("window.notes[0][1]") == "The training is completed."
    page.evaluate("window.away = false")
    bell.click()
    page.locator("[data-notify][aria-pressed=false]").wait_for()


def test_keys_are_listed(stage: Studio, visit: Callable[..., Any], run: str) -> None:
    page = visit(stage)
    loaded(page, run)
    page.keyboard.press("?")
    page.locator("dialog[open]").get_by_text("next, previous training").wait_for()
    page.keyboard.press("Escape")
    page.locator("dialog[open]").wait_for(state="detached")
    page.keyboard.press("/")
    page.locator("#search:focus").wait_for()
    page.keyboard.type("?")
    assert page.locator("#search").input_value() == "?"
    assert page.locator("dialog[open]").count() == 0
