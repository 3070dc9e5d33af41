"""Controls that no story of the other files presses: each is used once, and its effect seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import Studio, wait_for

pytestmark = pytest.mark.browser


@pytest.fixture
def catalog(stage: Studio) -> Iterator[None]:
    """What a test registers is gone after it: other files wait for nobody's job."""
    yield
    stage.python(
        "from trainings.models import *; Tokenization.objects.exclude(status='ready').delete(); "
        "Dataset.objects.exclude(status='ready').delete(); "
        "LanguageModel.objects.exclude(status='ready').delete()"
    )


@pytest.fixture
def page(stage: Studio, visit: Callable[..., Any]) -> Any:
    """The list with one run of each kind."""
    stage.python(
        "from trainings.models import Training; from tests.browser import rows; "
        "Training.objects.all().delete(); rows.failed(); rows.completed(); rows.waiting(); "
        "rows.running(step=500)"
    )
    opened = visit(stage)
    opened.locator(".chart.has-points").first.wait_for()
    return opened


def card(page: Any, status: str) -> Any:
    return page.locator("article[data-run]", has=page.locator(f"[data-status={status}]"))


def titles(page: Any) -> list[str]:
    found = page.locator("[data-run] h2").all_text_contents()
    return [text.strip() for text in found]


def test_a_waiting_run_is_stopped_and_resumed_where_it_stands(page: Any) -> None:
    page.evaluate("window.sameDocument = true")
    card(page, "pending").get_by_role("button", name="Stop").click()
    stopped = card(page, "stopped")
    stopped.get_by_role("button", name="Resume").click()
    card(page, "pending").get_by_text("Queued behind 1 run").wait_for()
    assert page.evaluate("window.sameDocument")


def test_a_running_run_that_is_stopped_says_what_it_does_first(page: Any) -> None:
    card(page, "running").get_by_role("button", name="Stop").click()
    card(page, "stopping").get_by_text("saving a checkpoint and the SAE first").wait_for()
    assert card(page, "stopping").get_by_role("button", name="Stop").count() == 0


def test_a_failed_run_is_retried_from_scratch(page: Any) -> None:
    card(page, "failed").get_by_role("link", name="Retry").click()
    dialog = page.locator("dialog[open]")
    assert dialog.get_by_role("radio", name="From the last checkpoint").is_disabled()
    dialog.get_by_role("button", name="Retry").click()
    page.locator("dialog[open]").wait_for(state="detached")
    wait_for(lambda: card(page, "pending").count() == 2, "the retried run to wait")


def test_filters_search_and_order_stand_in_the_address_and_go_back(page: Any) -> None:
    page.get_by_label("Status").get_by_role("link", name="Failed").click()
    page.wait_for_url("**/?status=failed")
    assert titles(page) == ["smollm2-135m-l11-standard-16x"]
    page.get_by_label("Status").get_by_role("link", name="All").click()
    page.get_by_role("searchbox").fill("transcoder")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?q=transcoder")
    assert titles(page) == ["smollm2-135m-l20-transcoder-8x"]
    page.get_by_role("searchbox").fill("nothing like this")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Show all trainings").click()
    page.locator(".sort summary").click()
    page.get_by_role("link", name="Oldest first").click()
    page.wait_for_url("**/?sort=oldest")
    assert titles(page)[0] == "smollm2-135m-l11-standard-16x"
    page.go_back()
    page.wait_for_url(lambda url: url.endswith("/"))
    assert titles(page)[0] == "smollm2-135m-l5-jumprelu-8x"


def test_a_card_shows_another_curve_and_leads_to_its_table(page: Any) -> None:
    done = card(page, "completed")
    done.get_by_role("button", name="L0", exact=True).click()
    chart = done.locator("canvas")
    wait_for(
        lambda: str(chart.get_attribute("aria-label")).startswith("L0 over steps"), "the curve"
    )
    assert done.get_by_role("button", name="L0", exact=True).get_attribute("aria-pressed") == "true"
    done.get_by_text("Load it in Python").click()
    done.get_by_role("button", name="Copy the lines").wait_for()
    done.get_by_role("link", name="View as table").click()
    page.get_by_role("cell", name="1,000", exact=True).first.wait_for()


def test_pages_of_the_list_and_their_size(stage: Studio, page: Any) -> None:
    stage.python("from tests.browser import rows; [rows.a_run(f'run {n}') for n in range(20)]")
    page.reload()
    assert page.locator("article[data-run]").count() == 20
    page.get_by_role("link", name="Next").click()
    page.get_by_text("Page 2 of 2").wait_for()
    page.get_by_role("link", name="Previous").click()
    page.get_by_role("navigation", name="Cards on a page").get_by_role("link", name="50").click()
    page.wait_for_url("**/?per=50")
    assert page.locator("article[data-run]").count() == 24


def test_what_happened_while_away_is_read_and_put_away(stage: Studio, page: Any) -> None:
    stage.python(
        "import time; from django.contrib.sessions.models import Session; "
        "from django.contrib.sessions.backends.db import SessionStore\n"
        "for row in Session.objects.all():\n"
        "    store = SessionStore(row.session_key); store['seen_at'] = time.time() - 7200; "
        "store.save()"
    )
    # An open page is told without a reload, too: this is what it does once a minute.
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.get_by_role("heading", name="While you were away").wait_for()
    away = page.locator("#away")
    away.get_by_role("link", name="smollm2-135m-l11-standard-16x").wait_for()
    away.get_by_role("button", name="Dismiss").click()
    page.get_by_role("heading", name="While you were away").wait_for(state="detached")
    page.reload()
    assert page.get_by_role("heading", name="While you were away").count() == 0


def test_a_folder_that_may_not_be_read_is_refused_beside_its_field(
    stage: Studio, page: Any
) -> None:
    page.get_by_role("link", name="Models", exact=True).click()
    page.get_by_label("Source").select_option("folder")
    page.get_by_label("Hugging Face id or folder").fill("/etc")
    page.get_by_role("button", name="Register").click()
    page.locator(".field-error").filter(has_text="/etc").wait_for()
    assert page.get_by_label("Hugging Face id or folder").input_value() == "/etc"


@pytest.mark.usefixtures("catalog")
def test_a_model_is_registered_and_deleted_again(page: Any) -> None:
    page.get_by_role("link", name="Models", exact=True).click()
    page.get_by_label("Hugging Face id or folder").fill("nobody/nothing")
    page.get_by_role("button", name="Register").click()
    row = page.get_by_role("row", name="nothing")
    row.get_by_role("link", name="Delete nothing").click()
    page.locator("dialog[open]").get_by_role("button", name="Delete").click()
    row.wait_for(state="detached")


def test_what_trainings_stand_on_is_not_deleted(page: Any) -> None:
    page.get_by_role("link", name="Datasets", exact=True).click()
    page.get_by_role("link", name="Delete TinyStories", exact=True).click()
    page.locator("dialog[open]").get_by_text("It is in use").wait_for()


@pytest.mark.usefixtures("catalog")
def test_a_dataset_is_registered_and_tokenized(page: Any) -> None:
    page.get_by_role("link", name="Datasets", exact=True).click()
    page.get_by_label("Hugging Face id or file").fill("nobody/texts")
    page.get_by_role("button", name="Register").click()
    page.get_by_role("row", name="texts").first.wait_for()
    page.get_by_label("Context length").fill("128")
    page.get_by_role("button", name="Tokenize").click()
    page.get_by_role("row").filter(has_text="128").first.wait_for()


def test_sae_is_found_and_its_folder_copied(page: Any) -> None:
    page.get_by_role("link", name="SAEs", exact=True).click()
    page.get_by_role("button", name="Copy the folder").click()
    page.locator("button.copied").wait_for()
    page.get_by_role("link", name="smollm2-135m-l5-topk-8x").click()
    page.wait_for_url("**/saes/*")


def test_cache_is_found_and_cleared(stage: Studio, page: Any) -> None:
    stage.python("from tests.browser import rows; rows.kept(3, groups=16)")
    page.get_by_role("link", name="Models", exact=True).click()
    page.get_by_role("link", name="Activation cache").click()
    page.get_by_role("row").filter(has_text="SmolLM2-135M").first.wait_for()
    page.get_by_role("link", name="Clear").click()
    page.locator("dialog[open]").get_by_role("button", name="Clear").click()
    page.get_by_text("Nothing is kept yet").wait_for()


def test_without_a_network_the_last_values_stay(page: Any) -> None:
    context = page.context
    context.set_offline(True)
    page.evaluate("window.dispatchEvent(new Event('offline'))")
    card(page, "running").get_by_text("(500/1,000 steps)").wait_for()
    card(page, "failed").get_by_role("link", name="Retry").click()
    page.get_by_text("The server does not answer").wait_for()
    context.set_offline(False)
    card(page, "failed").get_by_role("link", name="Retry").click()
    page.locator("dialog[open]").wait_for()


def test_two_tabs_show_the_same_and_either_may_act(
    stage: Studio, page: Any, visit: Callable[..., Any]
) -> None:
    other = visit(stage)
    card(other, "pending").get_by_role("button", name="Stop").click()
    card(other, "stopped").wait_for()
    page.bring_to_front()
    card(page, "stopped").wait_for()


def test_logging_out(stage: Studio, visit: Callable[..., Any], browser: Any) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(stage.login_link())
    page.get_by_role("heading", name="Trainings").wait_for()
    page.get_by_role("button", name="Log out").click()
    page.get_by_label("Password").wait_for()
    page.goto(stage.url)
    page.get_by_label("Password").wait_for()
    context.close()


def test_a_token_is_made_shown_once_and_revoked(stage: Studio, visit: Callable[..., Any]) -> None:
    page = visit(stage)
    page.get_by_role("link", name="local").click()
    page.get_by_label("Name", exact=True).fill("notebook")
    page.get_by_role("button", name="Make a token").click()
    page.get_by_text("the only time that the token is shown").wait_for()
    assert page.locator("#made-token").text_content().startswith("sae_")
    page.reload()
    assert page.locator("#made-token").count() == 0
    page.get_by_role("button", name="Revoke notebook").click()
    page.get_by_text("notebook is revoked.").wait_for()
    assert page.get_by_text("No token yet").count() == 1


def test_the_api_is_shown_with_its_operations_offline(
    stage: Studio, visit: Callable[..., Any]
) -> None:
    page = visit(stage, "/api/v1/docs")
    page.locator(".opblock").first.wait_for()
    assert page.locator(".opblock").count() > 40


def test_viewers_are_offered_nothing_that_they_may_not_do(
    stage: Studio, page: Any, browser: Any
) -> None:
    made = (
        "from django.test import Client; from django.contrib.auth.models import User; "
        "client = Client(); client.force_login(User.objects.get_or_create(username='eve')[0]); "
        "print(client.cookies['saestudio_session'].value)"
    )
    cookie = {"name": "saestudio_session", "value": stage.python(made).strip(), "url": stage.url}
    context = browser.new_context()
    context.add_cookies([cookie])
    seen = context.new_page()
    seen.goto(stage.url)
    seen.locator(".chart.has-points").first.wait_for()
    for name in ("Stop", "Resume", "Start Training", "Bulk Delete"):
        assert seen.get_by_role("button", name=name, exact=True).count() == 0
        assert seen.get_by_role("link", name=name, exact=True).count() == 0
    assert seen.get_by_role("link", name="Hyperparameters").count() == 4
    seen.goto(f"{stage.url}/models")
    assert seen.get_by_role("button", name="Register").count() == 0
    context.close()
