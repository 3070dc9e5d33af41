"""Start everything on this machine and print the address: what `make studio` runs."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError, CommandParser, call_command

from saestudio.access import exposure
from saestudio.access.links import login_link
from saestudio.programs import write_supervisor_config
from trainings import demo
from trainings.models import Training

READY_WITHIN = 120.0


class Command(BaseCommand):
    help = (
        "Start Redis, web, workers and sweeper, and print a login link. Example: manage.py studio"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--no-demo", action="store_true", help="Do not start the demo run.")

    def handle(self, *args: Any, **options: Any) -> None:
        _refuse_busy_port()
        call_command("migrate", verbosity=0)
        if reason := exposure.refusal(settings.BIND):
            raise CommandError(reason)
        call_command("collectstatic", interactive=False, verbosity=0)
        first_start = not Training.objects.exists() and not options["no_demo"]
        # In a session of its own, so that Ctrl-C reaches this process alone and it can end the
        # others in good order.
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(write_supervisor_config())],
            cwd=settings.BASE_DIR,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        # SIGINT too: a shell that starts this in the background has it ignored.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _as_interrupt)
        try:
            _wait_until_ready(supervisor)
            if first_start:
                demo.start()
            self._say(
                f"\nSAE Studio is running. Open this link (it logs you in once):\n\n"
                f"    {login_link()}\n\n"
                f"Data and logs lie in {settings.HOME}. Ctrl-C stops everything."
            )
            supervisor.wait()
            raise CommandError(f"The supervisor ended; see {settings.HOME}/logs/supervisord.log.")
        except KeyboardInterrupt:
            self._say("\nStopping; a training that runs is saved first ...")
        finally:
            _end(supervisor)
        self._say("Stopped.")

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()


def _as_interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _refuse_busy_port() -> None:
    with socket.socket(socket.AF_INET6 if ":" in settings.BIND else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.BIND, settings.PORT))
        except OSError as error:
            raise CommandError(
                f"Port {settings.PORT} on {settings.BIND} cannot be used: {error.strerror}. "
                "Is the studio already running? Otherwise choose another with SAESTUDIO_PORT."
            ) from error


def _wait_until_ready(supervisor: subprocess.Popen[bytes]) -> None:
    # From this machine, by a name that the studio answers to.
    own = settings.BIND if exposure.is_loopback(settings.BIND) else "127.0.0.1"
    host = settings.ALLOWED_HOSTS[0].lstrip(".").replace("*", "localhost")
    request = urllib.request.Request(
        f"http://{f'[{own}]' if ':' in own else own}:{settings.PORT}/readyz", headers={"Host": host}
    )
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline and supervisor.poll() is None:
        if _web_is_ready(request):
            return
        time.sleep(0.2)
    raise CommandError(f"The web server did not answer; see {settings.HOME}/logs/web.log.")


def _web_is_ready(request: urllib.request.Request) -> bool:
    """Pages can be looked at; workers are there a few seconds later."""
    try:
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                parts = json.load(answer)
        except urllib.error.HTTPError as error:
            parts = json.load(error)
    except (OSError, ValueError):
        return False
    return bool(parts["database"] == parts["redis"] == "ok")


def _end(supervisor: subprocess.Popen[bytes]) -> None:
    """Let everything end in good order; a second Ctrl-C does not leave processes behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if supervisor.poll() is None:
        supervisor.terminate()
    supervisor.wait()
