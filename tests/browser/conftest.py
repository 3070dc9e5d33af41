"""A real Chromium, and a web server over rows of every state, without workers."""

from __future__ import annotations

import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Studio, wait_for

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed.")

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
]
SESSIONS: dict[str, Any] = {}
SCREENS = Path(__file__).resolve().parents[2] / "docs" / "screens"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium per file; skipped where there is none, unless that is forbidden.

    Not for the whole session: while Playwright runs, this thread has an event loop, in which the
    synchronous tests of other files could not call Django.
    """
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        reason = f"No browser: none of {', '.join(NAMES)} is installed."
        if os.environ.get("SAESTUDIO_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with playwright.sync_playwright() as engine:
        chromium = engine.chromium.launch(executable_path=found, args=FLAGS)
        yield chromium
        chromium.close()


def web(redis_url: str, home: Path, seed: str) -> Studio:
    """A web server alone, over the rows that `seed` makes."""
    studio = Studio.prepared(home, f"{redis_url}?db=2")
    if seed:
        studio.python(f"from tests.browser import rows; {seed}")
    studio.start("web")
    wait_for(lambda: _answers(studio), "the web server to answer")
    return studio


def _answers(studio: Studio) -> bool:
    try:
        with urllib.request.urlopen(f"{studio.url}/healthz", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="session")
def gallery(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """Runs of every state; tests may look and click, and leave it as it was."""
    studio = web(redis_server, tmp_path_factory.mktemp("gallery"), "rows.gallery()")
    yield studio
    studio.stop()


@pytest.fixture(scope="session")
def stage(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A server whose trainings every test makes and removes as it likes."""
    studio = web(redis_server, tmp_path_factory.mktemp("stage"), "rows.a_tokenization()")
    yield studio
    studio.stop()


@pytest.fixture(scope="module")
def empty(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A server over an empty database."""
    studio = web(redis_server, tmp_path_factory.mktemp("empty"), "")
    yield studio
    studio.stop()


@dataclass
class Visit:
    """A logged-in page, and everything the browser complained about."""

    page: Any
    complaints: list[str]


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a page of a studio, logged in. The test fails on any script error or CSP report."""
    visits: list[Visit] = []

    def open_page(studio: Studio, path: str = "/", *, login: bool = True, **options: Any) -> Any:
        size = options.pop("size", (1440, 900))
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            reduced_motion="reduce",
            storage_state=_session(browser, studio) if login else None,
            **options,
        )
        page = context.new_page()
        opened = Visit(page, [])
        visits.append(opened)
        page.on("console", lambda said: _note(opened, said))
        page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        page.goto(studio.url + path)
        return page

    yield open_page
    complaints = [text for opened in visits for text in opened.complaints]
    for opened in visits:
        opened.page.context.close()
    assert not complaints, complaints


def _session(browser: Any, studio: Studio) -> Any:
    """The cookies of one login per studio; a link works once and costs a process."""
    if studio.url not in SESSIONS:
        context = browser.new_context()
        context.new_page().goto(studio.login_link())
        SESSIONS[studio.url] = context.storage_state()
        context.close()
    return SESSIONS[studio.url]


def _note(opened: Visit, said: Any) -> None:
    """Errors count, except of a request refused, unreachable, or replaced by a newer one."""
    if said.type == "error" and not said.text.startswith(
        (
            "Failed to load resource",
            "WebSocket connection to",
            "Response Status Error Code",
            "htmx:sendAbort",
            "htmx:sendError",
            "htmx:afterRequest",
        )
    ):
        opened.complaints.append(said.text)


@pytest.fixture
def picture() -> Callable[..., None]:
    """Write the page's picture to docs/screens, where that is asked for."""

    def take(page: Any, name: str, **options: Any) -> None:
        if os.environ.get("SAESTUDIO_WRITE_SCREENS") == "1":
            SCREENS.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=SCREENS / f"{name}.png", **options)

    return take
