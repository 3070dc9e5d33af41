"""Named places at which a test can have this process killed, as a power cut would.

`SAESTUDIO_CRASH=checkpoint.manifest:2` kills it the second time it comes by that place;
`SAESTUDIO_CRASH=checkpoint.manifest:2:SIGTERM` sends it another signal there.
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
    words = wanted.split(":")
    place, time, number = words + ["1", "SIGKILL"][len(words) - 1 :]
    if place != name:
        return
    _passed[name] = _passed.get(name, 0) + 1
    if _passed[name] == int(time):
        os.kill(os.getpid(), signal.Signals[number])
