"""Real parts for every test: a Redis of its own, a data folder, a running studio.

Django is imported inside the fixtures only: tests/engine runs where it is not installed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.environment import HOME
from tests.studio import ROOT, OwnRedis, Studio, free_port, running_studio, wait_for

__all__ = ["ROOT", "Studio", "free_port", "run_async", "wait_for"]


def run_async(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The coroutine's value, from a thread of its own: Playwright leaves its loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """The studio's own Redis on a socket in the tests' data folder; its URL."""
    server = OwnRedis(HOME / "redis")
    server.start()
    yield server.url
    server.end()


@pytest.fixture
def home(tmp_path: Path, settings: Any) -> Path:
    """A data folder for this test alone."""
    settings.HOME = tmp_path
    return tmp_path


@pytest.fixture(scope="session")
def studio(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A running studio with a tiny model, a tokenized text and nothing else."""
    # A database of its own: its workers must not take what a test sends in this process.
    url = f"{redis_server}?db=1"
    with running_studio(tmp_path_factory.mktemp("studio"), url) as running:
        yield running
