"""The end of an attempt's log as a page shows it, and what no log may hold."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from workers.engine.json_lines import JsonLines

MOST_SHOWN = 32_768
# More than is shown: an entry is longer than its message.
_READ = 4 * MOST_SHOWN
# Whatever else an environment may hold that is not for people's eyes.
_SECRET_NAMES = re.compile(r"TOKEN|SECRET|PASSWORD|API_KEY|_URL$")
_SECRET_FORMS = re.compile(r"\bhf_[A-Za-z0-9]{16,}|(?<=://)[^/\s:@]*:[^/\s]+(?=@)")
# The password of an address; it may have any sign of an address in it.
_PASSWORD = re.compile(r"://[^\s:@]*:(\S+)@")
# Its address is shown, and errors name parts of it.
_STORE = "SAESTUDIO_STORE"
_SHORTEST = 8
_HIDDEN = "[hidden]"


class Line(logging.Formatter):
    """A record as a line for people, without secrets."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return scrub(super().format(record))


class JsonLine(JsonLines):
    """A record as a line for machines, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        return scrub(super().format(record))


def tail(path: Path, most: int = MOST_SHOWN) -> str:
    """The last lines, at most so many characters; empty while there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _READ))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{path} cannot be read: {error}\n"
    lines = text.split("\n") if size <= _READ else text.split("\n")[1:]
    # A database keeps no null characters, and a power cut leaves some.
    shown = scrub("\n".join(_shown(lines))).replace("\x00", "")
    return shown if len(shown) <= most else shown[-most:].partition("\n")[2]


def scrub(text: str) -> str:
    """Without values of secret variables of at least eight characters, tokens of the hub, and
    passwords in addresses: those of variables wherever they stand."""
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and _SECRET_NAMES.search(name):
            text = text.replace(value, _HIDDEN)
        elif name == _STORE:
            for secret in _passwords(value):
                text = text.replace(secret, _HIDDEN)
    # The pattern takes long over what has none: a log may come by the gigabyte.
    return _SECRET_FORMS.sub(_HIDDEN, text) if "hf_" in text or "://" in text else text


def _passwords(address: str) -> list[str]:
    """That of an address, as it is written and as it is meant."""
    found = _PASSWORD.search(address)
    both = (found[1], unquote(found[1])) if found else ()
    return [each for each in both if len(each) >= _SHORTEST]


def _shown(lines: list[str]) -> Iterator[str]:
    """Entries as a person reads them; a line that is none stays as it is."""
    for line in lines:
        try:
            entry = json.loads(line) if line.startswith("{") else None
        except (ValueError, RecursionError):
            entry = None
        if not isinstance(entry, dict) or "message" not in entry:
            yield line
            continue
        head = f"{str(entry.get('time', ''))[:19].replace('T', ' ')} {entry['level']}".strip()
        yield f"{head} {entry['message']}" if entry.get("level") else str(entry["message"])
        if "exc_info" in entry:
            yield str(entry["exc_info"])
