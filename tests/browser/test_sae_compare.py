"""SAEs chosen from their list, compared, and found in the plane of all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.browser.test_screens import drawn, seen
from tests.conftest import Studio, wait_for

__all__ = ["seen"]
pytestmark = pytest.mark.browser

PLACE = "layer 5, resid_post"
# Of the pixel where the first plane draws this point.
WHERE = """(name) => {
  const canvas = document.querySelector("[data-pareto-chart=fvu] canvas");
  const chart = Chart.getChart(canvas);
  const at = chart.data.datasets[0].data.findIndex((point) => point.name === name);
  const { x, y } = chart.getDatasetMeta(0).data[at];
  const { left, top } = canvas.getBoundingClientRect();
  return [left + x, top + y];
}"""


@pytest.fixture
def page(stage: Studio, visit: Callable[..., Any], redis_server: str) -> Iterator[Any]:
    stage.python(
        "from trainings.models import *; from tests.browser import rows; "
        "Training.objects.all().delete(); Sae.objects.all().delete(); rows.several_saes()"
    )
    yield visit(stage, "/saes", size=(1440, 2000))
    # Those of trainings go with them; these would stand in the next test's list.
    stage.python("from trainings.models import *; Sae.objects.filter(training=None).delete()")


def told(page: Any) -> str:
    return str(page.locator("[data-pareto-chart=fvu] canvas").get_attribute("aria-label"))


def test_saes_are_chosen_by_keys_and_compared(page: Any, seen: Callable[..., None]) -> None:
    page.locator("body").click()
    page.keyboard.press("c")
    page.get_by_text("Select two to 8 SAEs to compare").wait_for()
    for key in "jjxjjxjx":
        page.keyboard.press(key)
    page.get_by_text("3 selected").wait_for()
    page.keyboard.press("c")
    page.wait_for_url("**/saes/compare?ids=*")
    page.get_by_label("SAE to add").select_option(index=1)
    page.get_by_role("button", name="Add").click()
    drawn(page, 2)
    assert page.locator(".worth [data-pareto]").count() == 3
    assert page.get_by_role("row", name="CE recovered").get_by_title("Best of these").count() == 1
    seen(page, "compare-saes", full_page=True)
    page.get_by_role("link", name="Take layers.5 out").click()
    wait_for(lambda: page.locator(".worth [data-pareto]").count() == 2, "two points")


def test_a_missing_evaluation_is_asked_for_and_its_end_renews_the_page(
    page: Any, stage: Studio
) -> None:
    for name in ("layers.5", "layers.5-wide"):
        page.get_by_label(f"Select {name}", exact=True).check()
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("button", name="Evaluate layers.5-wide").click()
    page.get_by_text("waiting for a worker").wait_for()
    assert "/saes/compare" in page.url
    stage.python(
        "from trainings.models import *; from tests.browser.rows import *; "
        "Sae.objects.filter(own_name='layers.5-wide').update(evaluation=EVALUATION | MEASURED); "
        "SaeJob.objects.update(status='done')"
    )
    wait_for(lambda: "layers.5-wide: FVU 0.0591" in told(page), "its point")
    assert page.get_by_role("button", name="Evaluate").count() == 0


def test_all_of_a_model_lie_in_one_plane_and_lead_to_their_pages(
    page: Any, seen: Callable[..., None]
) -> None:
    page.get_by_role("link", name="Pareto plane").click()
    drawn(page, 2)
    seen(page, "saes-pareto", full_page=True)
    page.set_viewport_size({"width": 1440, "height": 2000})
    page.get_by_label("Place", exact=True).select_option(PLACE)
    page.get_by_label("Colour by").select_option("place")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**place=layer**")
    drawn(page, 2)
    assert page.locator("[data-pareto-chart=fvu] .legend-name").all_text_contents() == [PLACE]
    assert "standard" not in told(page)
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save FVU over L0 as PNG").click()
    assert saved.value.suggested_filename == "compare-pareto.png"
    page.mouse.click(*page.evaluate(WHERE, "smollm2-135m-l5-batchtopk-32"))
    page.get_by_role("heading", name="smollm2-135m-l5-batchtopk-32", level=1).wait_for()
