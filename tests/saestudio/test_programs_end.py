"""How supervisord ends the studio's programs."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from saestudio import programs
from tests.studio import wait_for

# Ends once it and its neighbour have been told to; alone, only when it is killed.
WAITS = """
import pathlib, signal, sys, time
here, own, other = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
(here / f"{own}.began").touch()
signal.sigwait([signal.SIGTERM])
(here / f"{own}.told").touch()
while not (here / f"{other}.told").exists():
    time.sleep(0.05)
(here / f"{own}.saved").touch()
"""


def test_all_are_told_to_end_at_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trainer(own: str, other: str) -> programs.Program:
        script = home / "trainer.py"
        script.write_text(WAITS)
        return programs.Program(own, f"{sys.executable} {script} {home} {own} {other}", patience=5)

    both = [trainer("one", "two"), trainer("two", "one")]
    monkeypatch.setattr(programs, "programs", lambda kinds: both)
    config = programs.write_supervisor_config(["trainer"])
    words = [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)]
    with subprocess.Popen(words) as supervisord:
        wait_for(lambda: len(list(home.glob("*.began"))) == 2, "both to begin")
        supervisord.send_signal(signal.SIGTERM)
        supervisord.wait(60)
    assert len(list(home.glob("*.saved"))) == 2
