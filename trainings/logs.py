"""The end of a training process's log, as it may be shown."""

from __future__ import annotations

import os
import re
from pathlib import Path

TAIL_BYTES = 32_768
# Whatever else an environment may hold that is not for people's eyes.
_SECRET_NAMES = re.compile(r"TOKEN|SECRET|PASSWORD|API_KEY|_URL$")
_SECRET_FORMS = re.compile(r"\bhf_[A-Za-z0-9]{16,}|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)")
_SHORTEST = 8
_HIDDEN = "[hidden]"


def tail(path: Path, most_bytes: int = TAIL_BYTES) -> str:
    """The last lines, cut at a line and without secrets; empty while there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - most_bytes))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return scrub(text if size <= most_bytes else text.partition("\n")[2])


def scrub(text: str) -> str:
    """Without values of secret variables, tokens of the hub, and passwords in addresses."""
    for name, value in os.environ.items():
        if _SECRET_NAMES.search(name) and len(value) >= _SHORTEST:
            text = text.replace(value, _HIDDEN)
    return _SECRET_FORMS.sub(_HIDDEN, text)
