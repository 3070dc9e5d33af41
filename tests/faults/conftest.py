"""A studio that may be broken: its own Redis, its own database, programs that are started again."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.environment import HOME
from tests.faults import report
from tests.studio import PROGRAMS, Api, OwnRedis, Studio, running_studio, wait_for


@dataclass
class Fault:
    """One case: what it measured becomes its row in docs/reliability.md once the test passes."""

    measured: dict[str, object] = field(default_factory=dict)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Seconds until the block has ended, under this name."""
        begun = time.monotonic()
        yield
        self.measured[name] = time.monotonic() - begun


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Iterator[Fault]:
    """The case's name and promise are the test's docstring: `case: promise`."""
    said = (request.function.__doc__ or "").partition("\n\n")[0]
    case, _, promise = " ".join(said.split()).partition(": ")
    assert promise, "a case says in its docstring what it breaks: and what it promises"
    found = Fault()
    yield found
    which = getattr(request.node, "callspec", None)
    if request.node.stash.get(PASSED, False):
        report.keep(
            f"{case} ({which.id})" if which else case, promise.removesuffix("."), found.measured
        )


PASSED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Iterator[Any]:  # pragma: no cover
    found = yield
    if call.when == "call":
        item.stash[PASSED] = found.passed
    return found


@dataclass
class Ground:
    """What a case may break."""

    studio: Studio
    redis: OwnRedis
    api: Api

    def again(self, name: str) -> None:
        """Start a program that was ended, as the studio's supervisor does."""
        self.studio.processes[name].wait(60)
        self.studio.start(name)


@pytest.fixture
def spare(whole: Ground, tmp_path: Path) -> Iterator[Studio]:
    """Another studio beside it, thrown away with its database after one case."""
    with running_studio(tmp_path, f"{whole.redis.url}?db=2", _database("spare")) as studio:
        yield studio


@pytest.fixture(scope="package")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    redis = OwnRedis(HOME / "faults")
    redis.start()
    try:
        home = tmp_path_factory.mktemp("faults")
        with pytest.MonkeyPatch.context() as patch:
            # Moments are waited for by asking often.
            patch.setenv("SAESTUDIO_API_CALLS", "1000000")
            with running_studio(home, redis.url, _database()) as studio:
                yield Ground(studio, redis, Api(studio))
    finally:
        redis.end()


@pytest.fixture
def ground(whole: Ground) -> Iterator[Ground]:
    """With every program running, before and after."""
    yield whole
    for name in list(whole.studio.processes):
        process = whole.studio.processes[name]
        if name not in PROGRAMS:
            process.terminate()
            process.wait(60)
            del whole.studio.processes[name]
        elif process.poll() is not None:
            whole.studio.start(name)


def _database(name: str = "faults") -> str:
    """A database of the studio's own beside the tests', where those use PostgreSQL."""
    url = os.environ.get("SAESTUDIO_TEST_DATABASE_URL", "")
    if not url:
        return ""
    import psycopg

    with psycopg.connect(url.replace("postgres://", "postgresql://"), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name}")
        admin.execute(f"CREATE DATABASE {name}")
    return url.replace("/postgres?", f"/{name}?")


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> Callable[[str], None]:
    """Puts a script in the engine's place, for supervisors in this process."""
    from trainings import live
    from workers import process

    monkeypatch.setattr(live, "publish", lambda *_: None)

    def install(body: str) -> None:
        script = tmp_path / "child.py"
        script.write_text(body, encoding="utf-8")
        monkeypatch.setattr(process, "ENGINE", (str(script),))

    return install


# `datetime` is written in C and cannot be patched in place.
CLOCK_AHEAD = """
import datetime, time
_now, _now_ns, _real = time.time, time.time_ns, datetime.datetime
time.time = lambda: _now() + 3600
time.time_ns = lambda: _now_ns() + 3600 * 10**9
class _Kind(type(_real)):
    def __instancecheck__(cls, value):
        return isinstance(value, _real)
class _Ahead(_real, metaclass=_Kind):
    @classmethod
    def now(cls, tz=None):
        return _real.now(tz) + datetime.timedelta(hours=1)
    @classmethod
    def utcnow(cls):
        return _real.utcnow() + datetime.timedelta(hours=1)
datetime.datetime = _Ahead
"""


@pytest.fixture
def clock_ahead(tmp_path: Path) -> dict[str, str]:
    """An environment in which Python's clock is an hour ahead of the database's."""
    (tmp_path / "sitecustomize.py").write_text(CLOCK_AHEAD, encoding="utf-8")
    return {"PYTHONPATH": str(tmp_path)}


@pytest.fixture
def locked() -> Callable[[float], Any]:
    """Holds the database's write lock (PostgreSQL: the table of trainings) from another thread."""

    @contextmanager
    def hold(seconds: float) -> Iterator[None]:
        from django.db import connection, connections, transaction

        from trainings.models import Training

        held, waits = threading.Event(), threading.Event()

        def lock() -> None:
            try:
                with transaction.atomic():  # SQLite's begin IMMEDIATE here: see the settings
                    if connection.vendor == "postgresql":
                        connection.cursor().execute("LOCK TABLE trainings IN EXCLUSIVE MODE")
                    held.set()
                    waits.wait(seconds)
            finally:
                connections.close_all()

        def later() -> None:
            running = Training.objects.filter(status="running")
            wait_for(running.exists, "the run to be claimed")
            lock()

        thread = threading.Thread(target=later)
        thread.start()
        yield
        thread.join()
        assert held.is_set()

    return hold


@pytest.fixture
def nudged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of runs that the sweeper sent to the workers; every queue looks empty to it."""
    from trainings import nudge
    from workers import sweeper

    sent: list[str] = []
    monkeypatch.setattr(nudge, "run", lambda pk: sent.append(str(pk)))
    monkeypatch.setattr(sweeper, "_queue_is_empty", lambda _queue: True)
    return sent
