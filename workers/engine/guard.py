"""What goes wrong with one training of a group ends that one alone."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from . import memory
from .events import Event
from .member import Member

T = TypeVar("T")
# An event, and whose it is.
Of: TypeAlias = tuple[str, Event]
# What is told of a training that goes no further, with its id and step; or raises.
Failing: TypeAlias = Callable[[str, int, Exception], Event]


@dataclass(frozen=True)
class Guard:
    """Passes on what a training tells and gives back what it returns, None where it has failed."""

    failing: Failing

    def __call__(
        self,
        training_id: str,
        work: Generator[Event, None, T],
        step: Callable[[], int] = lambda: 0,
    ) -> Generator[Of, None, T | None]:
        try:
            return (yield from of(training_id, work))
        except Exception as error:  # noqa: BLE001 (whatever it is, others go on)
            told = self.failing(training_id, step(), error)
        # Outside of the clause: a caught error keeps the tensors of its frames alive.
        memory.release()
        yield training_id, told
        return None

    def member(self, member: Member, work: Generator[Event, None, T]) -> Generator[Of, None, bool]:
        """The same of one that trains; whether it went well."""
        work = _saved_first(member, work)
        return bool((yield from self(member.training_id, work, lambda: member.step)))


def of(training_id: str, work: Generator[Event, None, T]) -> Generator[Of, None, T]:
    """Its events with its id."""
    while True:
        try:
            event = next(work)
        except StopIteration as end:
            result: T = end.value
            return result
        yield training_id, event


def _saved_first(member: Member, work: Generator[Event, None, T]) -> Generator[Event, None, T]:
    """What was saved is told before what went wrong."""
    try:
        return (yield from work)
    except Exception:
        yield from member.saved()
        raise
