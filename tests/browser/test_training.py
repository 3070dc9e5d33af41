"""The whole road in a browser: from the dialog to a finished SAE, on a real worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.test_live import points_of
from tests.conftest import Studio, wait_for

pytestmark = pytest.mark.browser


def test_training_started_in_the_dialog_draws_its_curve_and_completes_without_a_reload(
    studio: Studio, visit: Callable[..., Any]
) -> None:
    page = visit(studio)
    wait_for(
        lambda: page.request.get(f"{studio.url}/checklist").text().count('class="done"') == 4,
        "the checklist to see model, dataset, tokenization and worker",
    )
    page.evaluate("window.sameDocument = true")
    page.get_by_role("link", name="Start Training").click()
    dialog = page.locator("dialog[open]")
    dialog.get_by_label("Name").fill("from the dialog")
    dialog.get_by_label("Steps", exact=True).fill("1000")
    dialog.get_by_label("Batch size").fill("512")
    dialog.get_by_label("Top-K sparsity", exact=True).fill("3")
    dialog.get_by_label("Top-K sparsity", exact=True).blur()
    dialog.get_by_text("512k").or_(dialog.get_by_text("512.0k")).wait_for()
    dialog.get_by_role("button", name="Start").click()

    card = page.locator("[data-run]", has_text="from the dialog")
    card.wait_for()
    run = card.get_attribute("data-run")
    counts: list[int] = []

    def grown() -> bool:
        counts.append(points_of(page, run))
        return len({count for count in counts if count}) >= 3

    wait_for(grown, "the chart to gain points, more than once", 200)
    card.locator(".status.completed").wait_for(timeout=400_000)
    card.get_by_text("held-out tokens").wait_for()
    wait_for(lambda: points_of(page, run) == 100, "every point to be on the chart")
    assert page.evaluate("window.sameDocument")
