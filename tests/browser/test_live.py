"""An open page follows what happens, without a reload and without losing its charts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.rows import a_point
from tests.conftest import Studio, wait_for
from trainings import live

pytestmark = pytest.mark.browser
RUN = "smollm2-135m-l5-jumprelu-8x"


@pytest.fixture
def run(stage: Studio) -> str:
    """A running run at step 500 of 1,000 on a stage with nothing else; its id."""
    return stage.python(
        "from trainings.models import Training; from tests.browser import rows; "
        "Training.objects.all().delete(); print(rows.running(step=500).pk)"
    ).strip()


def points_of(page: Any, run: str) -> int:
    """How many points the card's series hold."""
    return int(
        page.evaluate(
            "id => document.getElementById(`card-${id}`).run?.series.loss?.length ?? 0", run
        )
    )


def loaded(page: Any, run: str) -> None:
    page.locator(f"#card-{run} .chart.has-points").wait_for()


def say(run: str, seq: int, event: str, **data: Any) -> None:
    live.publish(event, run, seq, data)


def seq_of(page: Any, run: str) -> int:
    return int(page.evaluate("id => document.getElementById(`card-${id}`).run.seq", run))


def test_points_reach_the_chart_and_numbers_the_card(
    stage: Studio, visit: Callable[..., Any], run: str, redis_server: str
) -> None:
    page = visit(stage)
    loaded(page, run)
    page.evaluate("window.sameDocument = true")
    before = points_of(page, run)
    stage.python(
        "from trainings.models import Training; "
        f"Training.objects.filter(pk='{run}').update(current_step=510, latest={{'loss': 0.4321}})"
    )
    point = a_point(510, 1000)
    say(run, seq_of(page, run) + 1, "progress", **point, points=[point])
    page.get_by_text("(510/1,000 steps)").wait_for()
    page.get_by_text("0.4321").wait_for()
    wait_for(lambda: points_of(page, run) == before + 1, "the chart to gain the point")
    assert page.evaluate("window.sameDocument")


def test_numbers_that_change_move_nothing(
    stage: Studio, visit: Callable[..., Any], run: str, redis_server: str
) -> None:
    page = visit(stage)
    loaded(page, run)
    page.evaluate(
        "() => { window.shift = 0; new PerformanceObserver((list) => { "
        "for (const entry of list.getEntries()) window.shift += entry.value; "
        "}).observe({ type: 'layout-shift' }); }"
    )
    for step, loss in ((510, 0.5), (520, 12_345.0), (530, 0.00001), (540, 1.0)):
        stage.python(
            "from trainings.models import Training; "
            f"Training.objects.filter(pk='{run}').update(current_step={step}, "
            f"latest={{'loss': {loss}, 'l0': {loss * 7}, 'fvu': {loss}, 'dead_neurons': {step}, "
            f"'tokens_per_second': {loss * 1000}}})"
        )
        point = {**a_point(step, 1000), "loss": loss}
        say(run, seq_of(page, run) + 1, "progress", **point, points=[point])
        page.get_by_text(f"({step}/1,000 steps)").wait_for()
    assert page.evaluate("window.shift") == 0


def test_missed_events_are_fetched(
    stage: Studio, visit: Callable[..., Any], run: str, redis_server: str
) -> None:
    page = visit(stage)
    loaded(page, run)
    before = points_of(page, run)
    stage.python(
        "from trainings.models import Training; from tests.browser import rows; "
        f"run = Training.objects.get(pk='{run}'); run.metrics.all().delete(); "
        "rows.give_points(run, 600)"
    )
    # One number further than the next: something in between was lost.
    say(run, seq_of(page, run) + 7, "progress", **a_point(600, 1000))
    wait_for(lambda: points_of(page, run) == before + 10, "the missed points")


def test_value_that_is_no_number_leaves_a_gap_and_the_chart_alive(
    stage: Studio, visit: Callable[..., Any], run: str, redis_server: str
) -> None:
    page = visit(stage)
    loaded(page, run)
    before = points_of(page, run)
    seq = seq_of(page, run)
    say(run, seq + 1, "progress", points=[{**a_point(510, 1000), "loss": None}])
    say(run, seq + 2, "progress", points=[a_point(520, 1000)])
    wait_for(lambda: points_of(page, run) == before + 2, "both points")
    assert page.evaluate(
        "id => Number.isNaN(document.getElementById(`card-${id}`).run.series.loss.at(-2).y)", run
    )


def test_change_of_state_is_shown_and_announced_once(
    stage: Studio, visit: Callable[..., Any], run: str, redis_server: str
) -> None:
    page = visit(stage)
    loaded(page, run)
    stage.python(
        "from trainings.models import Training; "
        f"Training.objects.filter(pk='{run}').update(status='failed', "
        "error_message='The worker ran out of memory.')"
    )
    say(run, seq_of(page, run) + 1, "failed", error="x", step=500)
    page.get_by_text("The worker ran out of memory.").wait_for()
    page.get_by_role("link", name="Retry").wait_for()
    assert page.locator("#announcer").text_content() == f"{RUN}: Failed"
    assert page.locator("#filters [href*=failed] .count").text_content() == "1"


def test_training_started_elsewhere_appears(
    stage: Studio, visit: Callable[..., Any], run: str
) -> None:
    page = visit(stage)
    loaded(page, run)
    other = stage.python(
        "from trainings import live; from tests.browser import rows; "
        "print(rows.waiting().pk); live.publisher().drain()"
    ).strip()
    page.locator(f"#card-{other}").wait_for()
    assert page.locator("[data-run]").first.get_attribute("data-run") == other


def test_chart_survives_every_swap(
    stage: Studio, visit: Callable[..., Any], run: str, redis_server: str
) -> None:
    page = visit(stage)
    loaded(page, run)
    page.evaluate("id => { window.kept = document.querySelector(`#card-${id} canvas`) }", run)
    page.locator(f"#card-{run}").get_by_role("button", name="FVU").click()
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Stopping: saving a checkpoint").wait_for()
    assert page.evaluate("id => document.querySelector(`#card-${id} canvas`) === window.kept", run)
    pressed = page.locator(f"#card-{run} [aria-pressed=true]")
    assert pressed.text_content() == "FVU"


def test_lost_server_is_said_and_its_return_needs_no_reload(
    stage: Studio, visit: Callable[..., Any], run: str
) -> None:
    page = visit(stage)
    loaded(page, run)
    stage.processes["web"].terminate()
    stage.processes["web"].wait()
    page.get_by_text("reconnecting").wait_for()
    page.get_by_text("(500/1,000 steps)").wait_for()
    stage.start("web")
    page.locator("#connection").wait_for(state="hidden", timeout=60_000)
    assert points_of(page, run) == 50


def test_page_that_slept_for_a_day_catches_up_without_a_reload(
    stage: Studio, visit: Callable[..., Any], run: str
) -> None:
    page = visit(stage)
    loaded(page, run)
    page.evaluate("window.sameDocument = true")
    # Meanwhile the run goes on and ends, and the server is another one.
    sleep = page.context.new_cdp_session(page)
    sleep.send("Page.setWebLifecycleState", {"state": "frozen"})
    stage.python(
        "from trainings.models import Training; from tests.browser import rows; "
        f"run = Training.objects.get(pk='{run}'); run.metrics.all().delete(); "
        "rows.give_points(run, 1000); "
        "Training.objects.filter(pk=run.pk).update(status='stopped', current_step=1000, "
        "event_seq=run.event_seq + 5000, completed_at=run.created_at)"
    )
    stage.processes["web"].terminate()
    stage.processes["web"].wait()
    stage.start("web")
    sleep.send("Page.setWebLifecycleState", {"state": "active"})
    page.locator(f"#status-{run}", has_text="Stopped").wait_for(timeout=60_000)
    wait_for(lambda: points_of(page, run) == 100, "the points of the night")
    assert page.evaluate("window.sameDocument")


def test_socket_that_ends_in_good_order_is_opened_again(
    stage: Studio, visit: Callable[..., Any], run: str, redis_server: str
) -> None:
    """Daphne closes each after a day, with the code for a normal end."""
    page = visit(stage)
    loaded(page, run)
    routed: list[Any] = []

    def through(socket: Any) -> None:
        socket.connect_to_server()
        routed.append(socket)

    page.route_web_socket("**/ws/trainings", through)
    page.reload()
    loaded(page, run)
    wait_for(lambda: page.evaluate("true") and routed, "the first socket")
    before = points_of(page, run)
    routed[0].close(code=1000, reason="")
    wait_for(lambda: page.evaluate("true") and len(routed) == 2, "the second socket")
    page.locator("#connection").wait_for(state="hidden")
    point = a_point(510, 1000)
    say(run, seq_of(page, run) + 1, "progress", **point, points=[point])
    wait_for(lambda: points_of(page, run) == before + 1, "a point over the second socket")


def test_run_next_moves_the_cards_of_the_queue_at_once(
    stage: Studio, visit: Callable[..., Any], picture: Callable[..., None], run: str
) -> None:
    first, last = stage.python(
        "from tests.browser import rows; "
        "print(*(rows.waiting(name).pk for name in ('first', 'last')))"
    ).split()
    page = visit(stage)
    loaded(page, run)
    page.locator(f"#outcome-{last}", has_text="Queued behind 2 runs").wait_for()
    picture(page, "trainings-queued-1440-light", full_page=True)
    page.locator(f"#actions-{last}").get_by_role("button", name="Run next").click()
    page.locator(f"#outcome-{last}", has_text="Queued behind 1 run").wait_for()
    page.locator(f"#outcome-{first}", has_text="Queued behind 2 runs").wait_for()
    assert page.locator(f"#actions-{last}").get_by_role("button", name="Run next").count() == 0


def test_log_is_read_again_where_it_stands(
    stage: Studio, visit: Callable[..., Any], run: str
) -> None:
    log = stage.home / "trainings" / run / "attempt-1" / "log.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("first words\n")
    page = visit(stage, f"/trainings/{run}#log")
    page.get_by_text("first words").wait_for()
    page.evaluate("window.sameDocument = true")
    log.write_text("first words\nsecond words\n")
    page.locator("#log").get_by_role("link", name="Refresh").click()
    page.get_by_text("second words").wait_for()
    assert page.evaluate("window.sameDocument")
    with page.expect_download() as saved:
        page.locator("#log").get_by_role("link", name="Download").click()
    assert saved.value.path().read_text() == log.read_text()


def test_lost_login_is_said(stage: Studio, visit: Callable[..., Any], run: str) -> None:
    page = visit(stage)
    loaded(page, run)
    page.context.clear_cookies()
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("reload the page", exact=False).or_(
        page.get_by_text("Log in again")
    ).first.wait_for()
    page.reload()
    page.get_by_label("Password").wait_for()
