"""Log records as JSON, an object a line: time (UTC), level, source, message, what was added."""

from __future__ import annotations

from pythonjsonlogger.json import JsonFormatter


class JsonLines(JsonFormatter):
    def __init__(self) -> None:
        super().__init__(
            "%(levelname)s %(name)s %(message)s",
            rename_fields={"levelname": "level", "name": "source"},
            timestamp="time",
            json_ensure_ascii=False,
        )
