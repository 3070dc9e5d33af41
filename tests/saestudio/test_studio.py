"""`manage.py studio` as a newcomer meets it: one link, Ctrl-C, and again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import requests

from tests.conftest import ROOT, free_port, wait_for

pytestmark = pytest.mark.studio


@contextmanager
def started(home: Path, port: int) -> Iterator[str]:
    """A studio in its own folder; yields the link it printed, and ends it as Ctrl-C does."""
    environment = {**os.environ, "SAESTUDIO_HOME": str(home), "SAESTUDIO_PORT": str(port)}
    output = home.parent / "output"
    with output.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "studio", "--no-demo"],
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        found = wait_for(
            lambda: re.search(r"http://\S+/login/link/\S+", output.read_text()), "the link", 120
        )
        yield found.group(0)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert output.read_text().rstrip().endswith("Stopped.")


def processes_of(home: Path) -> list[psutil.Process]:
    """Everything that runs on this data folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SAESTUDIO_HOME") == str(home):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def test_the_studio_starts_heals_stops_and_starts_again(tmp_path: Path) -> None:
    home, port, browser = tmp_path / "var", free_port(), requests.Session()
    page = f"http://127.0.0.1:{port}/models"
    with started(home, port) as link:
        assert browser.get(link).status_code == 200
        [web] = [p for p in processes_of(home) if "saestudio.server" in p.cmdline()]
        web.kill()

        def answers() -> bool:
            try:
                return browser.get(page).status_code == 200
            except requests.ConnectionError:
                return False

        wait_for(answers, "the web server to be started again", 60)
    assert processes_of(home) == []
    with started(home, port):
        assert browser.get(page, allow_redirects=False).status_code == 200
    assert processes_of(home) == []
