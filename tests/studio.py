"""A studio in processes of its own, and the Redis it talks to: what tests start, use and break."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ("web", "trainer", "jobs", "saes", "sweeper")


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


class OwnRedis:
    """The studio's own Redis, on a socket in a folder; it can be ended and begun again."""

    def __init__(self, folder: Path, inside: Sequence[str] = (), more: Sequence[str] = ()) -> None:
        """`inside`: words before the command that starts it; `more`: words behind it."""
        from saestudio import redis_server

        self._folder = folder
        config = redis_server.write_config(folder)
        self._command = [*inside, str(redis_server.binary()), str(config), *more]
        self.url = f"unix://{redis_server.socket_path(folder)}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        import redis

        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        client = redis.Redis.from_url(self.url)

        def answers() -> bool:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

        wait_for(answers, "Redis to answer")

    @property
    def pid(self) -> int:
        assert self._process, "it runs"
        return self._process.pid

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None


# Runs what it is told, a line of JSON each, and answers with what was printed and what went wrong.
CONSOLE = """
import contextlib, io, json, sys, traceback
import django
django.setup()
from django.db import connection
for line in sys.stdin:
    printed, failed = io.StringIO(), ""
    try:
        with contextlib.redirect_stdout(printed):
            exec(json.loads(line), {})
    except Exception:
        failed = traceback.format_exc()
    connection.close()
    print(json.dumps([printed.getvalue(), failed]), flush=True)
"""


@dataclass
class Studio:
    """A whole studio in processes of its own: web, workers and sweeper over one folder."""

    home: Path
    port: int
    url: str
    environment: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    console: subprocess.Popen[str] | None = None

    @classmethod
    def prepared(cls, home: Path, redis_url: str, database_url: str = "") -> Studio:
        """With a migrated database and its static files; no program runs yet."""
        port = free_port()
        studio = cls(
            home=home,
            port=port,
            url=f"http://127.0.0.1:{port}",
            environment={
                **os.environ,
                "SAESTUDIO_HOME": str(home),
                "SAESTUDIO_PORT": str(port),
                "REDIS_URL": redis_url,
                "DATABASE_URL": database_url,
            },
        )
        studio.manage("migrate", "--verbosity", "0")
        studio.manage("collectstatic", "--no-input", "--verbosity", "0")
        return studio

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
        """Run code with Django set up, in the studio's surroundings; what it printed.

        In one process for all, since each would take seconds to begin.
        """
        if self.console is None:
            self.console = subprocess.Popen(
                [sys.executable, "-c", CONSOLE],
                cwd=ROOT,
                env=self.environment | {"DJANGO_SETTINGS_MODULE": "saestudio.settings"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self.console.stdin
        assert self.console.stdout
        self.console.stdin.write(json.dumps(code) + "\n")
        self.console.stdin.flush()
        printed, failed = json.loads(self.console.stdout.readline())
        assert not failed, failed
        return str(printed)

    def start(self, name: str, more: dict[str, str] | None = None) -> None:
        """Start a program; `trainer 2` is one more trainer. `more` goes into its environment."""
        from saestudio.programs import COMMANDS

        command, environment = COMMANDS[name.partition(" ")[0]], self.environment | (more or {})
        log = (self.home / f"{name}.log").open("ab")
        words = [part.format(bind="127.0.0.1", port=self.port) for part in command]
        self.processes[name] = subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, env=environment, stdout=log, stderr=log
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
        if self.console and self.console.stdin:
            self.console.stdin.close()
            self.console.wait(60)
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


RECIPE = {"num_steps": 1000, "batch_size": 512, "learning_rate": 0.001, "buffer_tokens": 8192}


class Api:
    """The running studio's REST API."""

    def __init__(self, studio: Studio) -> None:
        self.session = studio.session()
        self.root = f"{studio.url}/api/v1/trainings"
        code = (
            "from trainings.models import Tokenization as T;"
            "print(T.objects.get(model__name='tiny-llama').pk)"
        )
        self.tokenization = studio.python(code).strip()

    def start(self, name: str, **hyperparameters: Any) -> str:
        payload = {
            "name": name,
            "tokenization_id": self.tokenization,
            "layer": 1,
            "architecture": "standard",
            "hyperparameters": {**RECIPE, **hyperparameters},
        }
        answer = self.session.post(self.root, json=payload)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def get(self, pk: str) -> dict[str, Any]:
        found: dict[str, Any] = self.session.get(f"{self.root}/{pk}").json()
        return found

    def points_lost(self, pk: str, log_interval: int = 10) -> int:
        """How many points are missing before the last one that is kept."""
        points = self.session.get(f"{self.root}/{pk}/metrics").json()
        steps = {point["step"] for point in points}
        return len(set(range(log_interval, max(steps), log_interval)) - steps)

    def reachable(self) -> bool:
        import requests

        try:
            return bool(self.session.get(self.root, params={"limit": 1}, timeout=5).ok)
        except (requests.ConnectionError, requests.Timeout):
            return False

    def status(self, pk: str) -> str:
        answer = self.session.get(f"{self.root}/{pk}")
        return "gone" if answer.status_code == 404 else str(answer.json()["status"])

    def delete(self, pk: str) -> int:
        return int(self.session.delete(f"{self.root}/{pk}").status_code)

    def post(self, pk: str, wish: str) -> int:
        return int(self.session.post(f"{self.root}/{pk}/{wish}").status_code)

    def ended(self, pk: str) -> dict[str, Any]:
        def over() -> dict[str, Any] | None:
            training = self.get(pk)
            return training if training["status"] not in ("pending", "running") else None

        found: dict[str, Any] = wait_for(over, f"{pk} to end", 180, every=0.5)
        return found


def child_of(pk: str) -> psutil.Process | None:
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "workers.engine" in words and any(pk in word for word in words):
            return process
    return None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running_studio(home: Path, redis_url: str, database_url: str = "") -> Iterator[Studio]:
    """Web, workers and sweeper, with a tiny model, a tokenized text and nothing else."""
    import urllib.error
    import urllib.request

    running = Studio.prepared(home, redis_url, database_url)

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"{running.url}/readyz", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

    try:
        for name in PROGRAMS:
            running.start(name)
        running.python("from tests.tiny import seed; seed()")
        wait_for(ready, "the web server to be ready")
        yield running
    finally:
        running.stop()
