"""Named places at which a test can have this process killed, as a power cut would.

`SAESTUDIO_CRASH=checkpoint.manifest:2` kills it the second time it comes by that place.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "SAESTUDIO_CRASH"
POINTS = (
    "checkpoint.begun",
    "checkpoint.tensors",
    "checkpoint.state",
    "checkpoint.manifest",
    "checkpoint.renamed",
    "export.written",
    "export.renamed",
)
_passed: dict[str, int] = {}


def point(name: str) -> None:
    """Die here if the environment says so; `name` is one of `POINTS`."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    place, _, time = wanted.partition(":")
    if place != name:
        return
    _passed[name] = _passed.get(name, 0) + 1
    if _passed[name] == int(time or 1):
        os.kill(os.getpid(), signal.SIGKILL)
