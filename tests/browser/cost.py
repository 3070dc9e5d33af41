"""What the pages cost a browser: `python -m tests.browser.cost`, for docs/performance.md.

Figures of this machine, no tests: how long a run of a million steps takes to open, what a live
update costs in the browser, and how 50 live cards scroll.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.browser.conftest import FLAGS, NAMES, web
from tests.studio import OwnRedis, Studio

SEED = """
from tests.browser import rows
from trainings.models import Training, TrainingMetric
big = rows.a_run("a million steps", hyperparameters={"num_steps": 1_000_000, "batch_size": 512},
                 status="completed")
points = ({**rows.a_point(step // 1000, 1000), "step": step} for step in range(10, 1_000_001, 10))
TrainingMetric.objects.bulk_create(
    (TrainingMetric(training=big, **point) for point in points), batch_size=2000
)
for n in range(50):
    rows.running(f"live {n}", step=500)
print(big.pk)
"""
PUBLISH = """
import time
from tests.browser import rows
from trainings import live
from trainings.models import Training
running = Training.objects.filter(status="running").values_list("pk", flat=True)
ids = [str(pk) for pk in running[:{n}]]
for tick in range({ticks}):
    begun = time.monotonic()
    for pk in ids:
        point = rows.a_point(510 + 10 * tick, 1000)
        data = {{**point, "progress_pct": 51.0, "points": [point]}}
        live.publish("progress", pk, 1000 + tick, data)
    time.sleep(max(0.0, {every} - (time.monotonic() - begun)))
"""
FRAMES = """
() => new Promise((done) => {
  const gaps = [];
  let last = performance.now();
  const page = document.scrollingElement;
  const end = page.scrollHeight - innerHeight;
  const step = (now) => {
    gaps.push(now - last);
    last = now;
    if (page.scrollTop >= end - 1) return done(gaps);
    page.scrollTop += 60;
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
})
"""


def open_seconds(page: Any, url: str) -> float:
    """From the address to the charts in sight, the median of five."""
    found = []
    for _ in range(5):
        begun = time.perf_counter()
        page.goto(url)
        page.wait_for_function("document.querySelectorAll('.chart.has-points').length >= 2")
        found.append(time.perf_counter() - begun)
    return statistics.median(found)


def update_ms(studio: Studio, page: Any, n: int) -> float:
    """Milliseconds of the browser's main thread per event, of everything an event sets off."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")

    def busy() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return float(next(m["value"] for m in metrics if m["name"] == "TaskDuration"))

    ticks = 40
    begun = busy()
    studio.python(PUBLISH.format(n=n, ticks=ticks, every=0.5))
    return 1000 * (busy() - begun) / (ticks * n)


def main() -> None:
    chromium = next(path for name in NAMES if (path := shutil.which(name)))
    folder = Path(tempfile.mkdtemp(prefix="saestudio-cost-"))
    redis = OwnRedis(folder / "redis")
    redis.start()
    studio = web(redis.url, folder / "home", "")
    try:
        big = studio.python(SEED).strip()
        with sync_playwright() as engine:
            browser = engine.chromium.launch(executable_path=chromium, args=FLAGS)
            page = browser.new_context(
                viewport={"width": 1440, "height": 900}, bypass_csp=True
            ).new_page()
            page.goto(studio.login_link())
            figures = {"open_million_steps_s": open_seconds(page, f"{studio.url}/trainings/{big}")}
            page.goto(f"{studio.url}/?status=running&per=50")
            page.wait_for_function("document.querySelectorAll('.chart.has-points').length > 0")
            figures["update_of_a_card_ms"] = update_ms(studio, page, 1)
            figures["update_of_each_of_50_cards_ms"] = update_ms(studio, page, 50)
            sender = threading.Thread(
                target=studio.python, args=(PUBLISH.format(n=50, ticks=20, every=0.5),)
            )
            sender.start()
            gaps = sorted(page.evaluate(FRAMES)[1:])
            sender.join()
            figures["scroll_frame_median_ms"] = statistics.median(gaps)
            figures["scroll_frame_p95_ms"] = gaps[int(0.95 * len(gaps))]
            run = page.locator("[data-run]").first.get_attribute("data-run")
            page.goto(f"{studio.url}/trainings/{run}")
            page.wait_for_function("document.querySelectorAll('.chart.has-points').length >= 2")
            figures["update_of_a_training_page_ms"] = update_ms(studio, page, 1)
            browser.close()
        rounded = {name: round(value, 2) for name, value in figures.items()}
        print(json.dumps(rounded, indent=2))  # noqa: T201
    finally:
        studio.stop()
        redis.end()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
