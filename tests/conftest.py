"""Real parts for every test: a Redis of its own, a data folder, a running studio.

Django is imported inside the fixtures only: tests/engine runs where it is not installed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.environment import HOME

ROOT = Path(__file__).resolve().parent.parent


def wait_for(
    condition: Callable[[], Any], what: str, seconds: float = 60.0, every: float = 0.05
) -> Any:
    """The condition's value as soon as it is true; fails with what was waited for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(every)
    raise AssertionError(f"Waited {seconds:.0f} s in vain for {what}.")


def run_async(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The coroutine's value, from a thread of its own: Playwright leaves its loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """The studio's own Redis on a socket in the tests' data folder; its URL."""
    import redis

    from saestudio import redis_server as server

    config = server.write_config(HOME / "redis")
    url = f"unix://{server.socket_path(HOME / 'redis')}"
    with subprocess.Popen(
        [str(server.binary()), str(config)], stdout=subprocess.DEVNULL
    ) as process:
        client = redis.Redis.from_url(url)

        def answers() -> bool:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

        wait_for(answers, "Redis to answer")
        yield url
        process.terminate()


@pytest.fixture
def home(tmp_path: Path, settings: Any) -> Path:
    """A data folder for this test alone."""
    settings.HOME = tmp_path
    return tmp_path


@dataclass
class Studio:
    """A whole studio in processes of its own: web, trainer, jobs and sweeper over one folder."""

    home: Path
    port: int
    url: str
    environment: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def manage(self, *words: str) -> str:
        """Run one `manage.py` command in the studio's surroundings; its output."""
        done = subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"manage.py {words[0]}: {done.stdout}{done.stderr}"
        return done.stdout

    def python(self, code: str) -> str:
        """Run code with Django set up, in the studio's surroundings; what it printed."""
        return self.manage("shell", "--no-imports", "-c", code)

    def start(self, name: str) -> None:
        from saestudio.programs import COMMANDS

        log = (self.home / f"{name}.log").open("ab")
        words = [part.format(bind="127.0.0.1", port=self.port) for part in COMMANDS[name]]
        self.processes[name] = subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, env=self.environment, stdout=log, stderr=log
        )
        log.close()

    def login_link(self) -> str:
        return self.manage("login_link").strip()

    def session(self) -> Any:
        """A logged-in HTTP session that carries the CSRF token."""
        import requests

        session = requests.Session()
        session.get(self.login_link()).raise_for_status()
        session.headers["X-CSRFToken"] = session.cookies["saestudio_csrf"]
        return session

    def log(self, name: str) -> str:
        return (self.home / f"{name}.log").read_text(errors="replace")

    def stop(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def studio(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A running studio with a tiny model, a tokenized text and nothing else."""
    import urllib.error
    import urllib.request

    home, port = tmp_path_factory.mktemp("studio"), free_port()
    running = Studio(
        home=home,
        port=port,
        url=f"http://127.0.0.1:{port}",
        environment={
            **os.environ,
            "SAESTUDIO_HOME": str(home),
            "SAESTUDIO_PORT": str(port),
            # A database of its own: its workers must not take what a test sends in this process.
            "REDIS_URL": f"{redis_server}?db=1",
            "DATABASE_URL": "",
        },
    )
    with ExitStack() as stack:
        stack.callback(running.stop)
        running.manage("migrate", "--verbosity", "0")
        running.manage("collectstatic", "--no-input", "--verbosity", "0")
        running.python("from tests.tiny import seed; seed()")
        for name in ("web", "trainer", "jobs", "sweeper"):
            running.start(name)

        def ready() -> bool:
            try:
                with urllib.request.urlopen(f"{running.url}/readyz", timeout=5):
                    return True
            except (urllib.error.URLError, OSError):
                return False

        wait_for(ready, "the web server to be ready")
        yield running
