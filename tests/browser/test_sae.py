"""An SAE's page in a browser: its parts, its latents, a text, the jobs that renew it, the film."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.test_screens import seen
from tests.conftest import Studio, wait_for

__all__ = ["seen"]
pytestmark = pytest.mark.browser

TABS = {"Scorecard": "", "Features": "-features", "Try a text": "-text", "Use it": "-use"}
# Where the files of this test lie says nothing to a reader of the pictures.
ELSEWHERE = """() => {
  const there = "/data/sae/trainings/7c9a/attempt-1";
  for (const code of document.querySelectorAll("#use code"))
    code.textContent = code.textContent.replaceAll(/\\/\\S*\\/attempt-1/g, there);
}"""
HEIGHTS = "[...document.querySelectorAll('[data-film] rect')].map((r) => r.getAttribute('height'))"
MODELS = "from trainings.models import *; "


@pytest.fixture
def sae(stage: Studio) -> str:
    """Its id; other trainings are gone."""
    made = "Training.objects.all().delete(); print(rows.an_sae().pk)"
    return stage.python(f"from tests.browser import rows; {MODELS}{made}").strip()


@pytest.fixture
def page(stage: Studio, visit: Callable[..., Any], sae: str) -> Any:
    return visit(stage, f"/saes/{sae}")


def test_every_part_is_drawn(page: Any, stage: Studio, sae: str, seen: Callable[..., None]) -> None:
    job = stage.python(f"{MODELS}print(SaeJob.objects.get(kind='probe').pk)").strip()
    page.goto(f"{stage.url}/saes/{sae}?text={job}")
    page.evaluate(ELSEWHERE)
    for tab, name in TABS.items():
        page.get_by_role("tab", name=tab).click()
        seen(page, f"sae{name}", full_page=True)
    page.goto(f"{stage.url}/saes/{sae}/features/1")
    seen(page, "latent", full_page=True)


def test_latents_are_sorted_searched_and_opened(page: Any) -> None:
    page.get_by_role("tab", name="Features").click()
    first = page.locator(".latents tbody tr").first
    assert first.locator("th").inner_text() == "0"
    page.get_by_role("link", name="Largest").click()
    page.wait_for_url("**sort=maximum**")
    assert first.locator("td").last.inner_text() == "9.000"
    page.get_by_role("link", name="Next").click()
    page.wait_for_url("**page=2**")
    assert page.get_by_text("Page 2 of 3").is_visible()
    page.get_by_label("Token", exact=True).fill("valueerror")
    page.get_by_role("button", name="Search").click()
    page.wait_for_url("**token=valueerror**")
    assert page.get_by_text("that fire most on “valueerror”").is_visible()
    first.get_by_role("link").click()
    page.wait_for_url("**/features/*")
    assert page.get_by_role("heading", level=1).inner_text().startswith("Latent ")
    assert page.locator(".examples .peak").first.inner_text() == " ValueError"
    page.go_back()
    assert page.get_by_text("that fire most on “valueerror”").is_visible()


def test_an_evaluation_is_asked_for_once_and_its_end_renews_the_page(
    page: Any, stage: Studio
) -> None:
    page.get_by_role("button", name="Evaluate again").dblclick()
    page.get_by_text("waiting for a worker").wait_for()
    jobs = "SaeJob.objects.filter(kind='evaluate')"
    stage.python(f"{MODELS}{jobs}.update(status='running', progress=0.4)")
    page.get_by_text("40 %").wait_for()
    assert stage.python(f"{MODELS}print({jobs}.count())").strip() == "1"
    stage.python(
        f"{MODELS}sae = Sae.objects.get(); sae.evaluation['fvu'] = 0.1234; sae.save();"
        f"{jobs}.update(status='done', progress=1.0)"
    )
    page.get_by_text("0.1234").wait_for()
    assert not page.get_by_text("waiting for a worker").is_visible()


def test_a_failed_job_says_why_and_the_page_goes_on(page: Any, stage: Studio) -> None:
    page.get_by_role("tab", name="Use it").click()
    page.get_by_role("button", name="Write for SAELens").click()
    page.get_by_text("waiting for a worker").wait_for()
    stage.python(
        f"{MODELS}SaeJob.objects.filter(format='saelens')"
        ".update(status='failed', error_message='The disk is full.')"
    )
    page.get_by_text("The disk is full.").first.wait_for()
    button = page.get_by_role("button", name="Write for SAELens")
    wait_for(button.is_enabled, "the part with the button")
    assert page.get_by_role("tab", name="Use it").get_attribute("aria-selected") == "true"


def test_a_text_being_typed_stays_when_another_job_ends(page: Any, stage: Studio) -> None:
    page.get_by_role("button", name="Evaluate again").click()
    page.get_by_text("waiting for a worker").wait_for()
    page.get_by_role("tab", name="Try a text").click()
    field = page.get_by_label("Text", exact=True).last
    field.fill("half a sen")
    stage.python(
        f"{MODELS}sae = Sae.objects.get(); sae.evaluation['fvu'] = 0.1234; sae.save();"
        "SaeJob.objects.filter(kind='evaluate').update(status='done', progress=1.0)"
    )
    page.locator("#sae-figures", has_text="0.123").wait_for()
    assert field.input_value() == "half a sen"
    assert field.evaluate("element => element === document.activeElement")
    assert page.get_by_role("tab", name="Try a text").get_attribute("aria-selected") == "true"


def test_a_failure_is_dismissed(page: Any, stage: Studio) -> None:
    page.get_by_role("button", name="Evaluate again").click()
    page.get_by_text("waiting for a worker").wait_for()
    stage.python(
        f"{MODELS}SaeJob.objects.filter(kind='evaluate')"
        ".update(status='failed', error_message='It has no layer 9.')"
    )
    page.get_by_text("It has no layer 9.").wait_for()
    page.get_by_role("button", name="Dismiss the failure of evaluation").click()
    page.get_by_text("It has no layer 9.").wait_for(state="detached")


def test_a_text_is_sent_and_waited_for(page: Any, stage: Studio) -> None:
    page.get_by_role("tab", name="Try a text").click()
    page.get_by_label("Text", exact=True).last.fill("raise\nValueError")
    page.get_by_role("button", name="See what it activates").click()
    page.wait_for_url("**?text=*")
    page.get_by_text("waiting for a worker").wait_for()
    stage.python(
        f"{MODELS}done = SaeJob.objects.get(text__startswith='raise');"
        "old = SaeJob.objects.exclude(pk=done.pk).get(kind='probe'); done.status = 'done';"
        "done.result = old.result; done.save()"
    )
    page.locator(".strongest li").first.wait_for()
    assert page.locator(".strongest .shade-9").first.is_visible()


def test_the_film_is_played_and_moved(page: Any, stage: Studio) -> None:
    page.get_by_role("link", name="Its training").click()
    page.get_by_role("tab", name="Features").click()
    told = page.locator(".film-controls output")
    wait_for(lambda: "step 1,000: 100 never fired" in told.inner_text(), "the last frame")
    last = page.evaluate(HEIGHTS)
    page.get_by_role("slider", name="Step").press("Home")
    assert told.inner_text().startswith("step 50:")
    assert page.evaluate(HEIGHTS) != last
    page.get_by_role("button", name="Play").click()
    wait_for(lambda: "step 1,000" in told.inner_text(), "the film to end")
    assert page.evaluate(HEIGHTS) == last
    page.get_by_role("button", name="Play").wait_for()


def test_its_training_is_continued_from_its_page(
    page: Any, stage: Studio, sae: str, seen: Callable[..., None]
) -> None:
    page.get_by_role("link", name="Continue training").click()
    page.wait_for_url("**/continue")
    assert page.locator("#start-continues").is_visible()
    assert not page.get_by_label("Architecture", exact=True).count()
    page.get_by_label("Name").fill("further")
    seen(page, "continue", full_page=True)
    page.locator("#start-form .dialog-foot button.primary").click()
    page.wait_for_url(f"{stage.url}/")
    run = f"{MODELS}print(Training.objects.get(name='further').origin['id'])"
    assert stage.python(run).strip() == sae
