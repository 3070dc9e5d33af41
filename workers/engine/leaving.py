"""Which trainings of a group were asked to stop while the others go on."""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)


class Leaving:
    """Those that were asked; any thread may add to them."""

    def __init__(self) -> None:
        self._asked: set[str] = set()

    def hear(self, line: str) -> None:
        """A line such as `stop 7f3c…`, from whoever started this process."""
        word, _, training_id = line.strip().partition(" ")
        if word != "stop" or not training_id:
            log.warning("A line was not understood: %r; `stop TRAINING_ID` would be.", line)
            return
        self._asked.add(training_id)

    def asks(self, training_id: str) -> Callable[[], bool]:
        """Whether this one was asked to, whenever that is asked."""
        return lambda: training_id in self._asked
