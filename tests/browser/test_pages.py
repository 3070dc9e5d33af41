"""What a user does on the pages, with and without scripts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Studio, wait_for

pytestmark = pytest.mark.browser


@pytest.fixture
def clean(stage: Studio) -> Studio:
    """The stage without any training."""
    stage.python("from trainings.models import Training; Training.objects.all().delete()")
    return stage


def count_trainings(studio: Studio) -> int:
    return int(studio.python("from trainings.models import *; print(Training.objects.count())"))


def open_start(page: Any) -> Any:
    page.get_by_role("link", name="Start Training").click()
    dialog = page.locator("dialog[open]")
    dialog.wait_for()
    return dialog


def test_fields_follow_the_architecture_and_keep_what_was_typed(
    clean: Studio, visit: Callable[..., Any]
) -> None:
    dialog = open_start(visit(clean))
    dialog.get_by_label("Steps", exact=True).fill("2000")
    dialog.get_by_label("Architecture", exact=True).select_option("jumprelu")
    dialog.get_by_label("L0 alpha").wait_for()
    assert dialog.get_by_label("L1 alpha", exact=True).count() == 0
    assert dialog.get_by_label("Steps", exact=True).input_value() == "2000"
    assert dialog.get_by_label("L0 alpha").input_value() == "0.0002"


def test_wrong_value_is_told_beside_its_field_before_and_after_the_start(
    clean: Studio, visit: Callable[..., Any], picture: Callable[..., None]
) -> None:
    page = visit(clean)
    dialog = open_start(page)
    dialog.get_by_label("Batch size").fill("12")
    dialog.get_by_label("Batch size").blur()
    error = dialog.locator("#start-batch_size_error")
    error.get_by_text("12 is too small").wait_for()
    dialog.get_by_role("button", name="Start").click()
    dialog.get_by_text("Nothing was started").wait_for()
    picture(page, "start-error-1440-light")
    assert "12 is too small" in error.text_content()
    assert count_trainings(clean) == 0


def test_impatient_user_starts_one_run(clean: Studio, visit: Callable[..., Any]) -> None:
    page = visit(clean)
    dialog = open_start(page)
    # Two clicks in one breath, before any answer can have come.
    dialog.get_by_role("button", name="Start").evaluate("b => { b.click(); b.click() }")
    page.locator("[data-run]").wait_for()
    page.locator("dialog[open]").wait_for(state="detached")
    assert count_trainings(clean) == 1


def test_deleting_asks_first_and_takes_the_card_away(
    clean: Studio, visit: Callable[..., Any]
) -> None:
    clean.python("from tests.browser import rows; rows.completed()")
    page = visit(clean)
    page.get_by_role("link", name="Delete", exact=True).click()
    page.get_by_text("This cannot be undone").wait_for()
    page.locator("dialog").get_by_role("button", name="Delete").click()
    page.locator("[data-run]").wait_for(state="detached")
    page.locator("dialog[open]").wait_for(state="detached")
    page.get_by_text("are being deleted").wait_for()


def test_hyperparameters_are_copied_as_a_command(clean: Studio, visit: Callable[..., Any]) -> None:
    clean.python("from tests.browser import rows; rows.completed()")
    page = visit(clean, permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("link", name="Hyperparameters").click()
    page.get_by_role("button", name="Copy as command").click()
    page.locator(".copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("manage.py train --model SmolLM2-135M --dataset TinyStories --layer 5")


def test_chosen_theme_stays_and_redraws_the_charts(
    clean: Studio, visit: Callable[..., Any]
) -> None:
    clean.python("from tests.browser import rows; rows.completed()")
    page = visit(clean, color_scheme="light")
    page.locator(".chart.has-points").wait_for()
    page.get_by_title("Dark").click()
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(13, 15, 18)"
    page.reload()
    assert page.evaluate(background) == "rgb(13, 15, 18)"


def test_keys_move_and_open(clean: Studio, visit: Callable[..., Any]) -> None:
    clean.python("from tests.browser import rows; rows.waiting('one'); rows.waiting('two')")
    page = visit(clean)
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.textContent") == "one"
    page.keyboard.press("/")
    page.keyboard.type("n")
    assert page.get_by_label("Search").input_value() == "n"
    page.locator("h1").click()
    page.keyboard.press("n")
    page.locator("dialog[open]").wait_for()


def test_preparing_row_moves_by_itself_and_then_stops_asking(
    clean: Studio, visit: Callable[..., Any], picture: Callable[..., None]
) -> None:
    clean.python("from tests.browser import rows; rows.preparing()")
    page = visit(clean)
    page.get_by_text("5,410,816 tokens so far").wait_for()
    picture(page, "preparing-1440-light")
    clean.python(
        "from trainings.models import *; "
        "Tokenization.objects.filter(status='running').update(status='ready', progress=1)"
    )
    page.get_by_text("5,410,816 tokens so far").wait_for(state="detached")
    assert page.locator("#preparing").get_attribute("hx-get") is None
    page.get_by_text("There is no such dataset").wait_for()


def test_everything_works_without_scripts(clean: Studio, visit: Callable[..., Any]) -> None:
    page = visit(clean, java_script_enabled=False)
    page.get_by_role("link", name="Start Training").click()
    page.get_by_label("Architecture", exact=True).select_option("jumprelu")
    page.get_by_role("button", name="Update the fields").click()
    page.get_by_label("L0 alpha").wait_for()
    page.get_by_label("Name").fill("plain")
    page.get_by_role("button", name="Start").click()
    page.get_by_role("heading", name="plain").wait_for()
    page.get_by_role("button", name="Stop").click()
    page.locator(".status.stopped").wait_for()
    page.get_by_role("link", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete").click()
    page.get_by_text("No training yet").wait_for()


def test_page_of_a_deleted_run_goes_back_to_the_list(
    clean: Studio, visit: Callable[..., Any]
) -> None:
    run = clean.python("from tests.browser import rows; print(rows.completed().pk)").strip()
    page = visit(clean, f"/trainings/{run}")
    page.get_by_role("link", name="Delete", exact=True).click()
    page.locator("dialog").get_by_role("button", name="Delete").click()
    page.wait_for_url(f"{clean.url}/")
    wait_for(lambda: page.locator("[data-run]").count() == 0, "the run to be gone")


def test_a_worker_is_drained_where_it_stands(clean: Studio, visit: Callable[..., Any]) -> None:
    """The page renews itself under the button that has the focus; the press is not lost."""
    clean.python(
        "from trainings.models import Worker; from workers.release import version\n"
        "Worker.objects.filter(host='a-host').delete()\n"
        "for n in (0, 1):\n"
        "    Worker.objects.create(kind='trainer', host='a-host', pid=n + 1, slot=f'trainer-{n}',"
        " version=version(), cores=8, memory_total=64_000_000_000,"
        " memory_available=32_000_000_000, gpus=[dict(name='NVIDIA H100', uuid=f'GPU-{n}',"
        " memory_used=20_000_000_000, memory_total=80_000_000_000)])"
    )
    page = visit(clean, "/workers")
    first = page.get_by_role("button", name="Drain trainer on a-host (1)")
    first.focus()
    with page.expect_response("**/workers/hosts"):
        pass
    first.press("Enter")
    page.get_by_role("button", name="Take work again: trainer on a-host (1)").wait_for()
    assert page.locator("tr.drained").count() == 1
    page.get_by_role("button", name="Drain the host").last.click()
    wait_for(lambda: page.locator("tr.drained").count() == 2, "the whole host to drain")
    page.get_by_role("button", name="Take work again", exact=True).click()
    wait_for(lambda: page.locator("tr.drained").count() == 0, "the host to take work again")
    clean.python("from trainings.models import Worker; Worker.objects.all().delete()")
