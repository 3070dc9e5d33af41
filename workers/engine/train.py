"""Trainings from loading the model to the exported SAE, as a stream of events.

One, or several that share one stream of activations: each batch is read once and every one of them
makes its step on it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path

from . import events
from .activations import StopRequested
from .agreement import check_formats, check_reading, check_specs
from .asked import Asked
from .config import RunSpec, warnings
from .fit import Sized, check_disk, fitting, sized
from .guard import Failing, Guard, Of, of
from .member import Member
from .preflight import Preflight
from .prepared import Entry, Prepared
from .ranks import ALONE, Ranks
from .source import Source


def train(
    spec: RunSpec,
    run_dir: Path,
    stop: Callable[[], bool] = lambda: False,
    pause: Callable[[], bool] = lambda: False,
    ranks: Ranks = ALONE,
) -> Iterator[events.Event]:
    """Train as `spec` says; checkpoints and SAE go to `run_dir`.

    Of several ranks all do this, and stop where one of them was asked to. What the first one yields
    is what there is to tell: it alone writes checkpoints, evaluates and exports.

    Ends with Completed, with Stopped (checkpoint and SAE), or with Paused (checkpoint alone).
    `stop` and `pause` are asked between steps and between forward passes. Raises an error of the
    engine (`ModelError`, `TokenizeError`, `ConfigError`, `TrainingError`, `ExportError`) whose
    message is a sentence, or whatever the machine raises (`OSError`, `torch.OutOfMemoryError`).
    """
    together = train_together([Entry(spec, run_dir)], _raised, stop, pause, ranks)
    with closing(together):
        for _, event in together:
            yield event


def train_together(
    entries: Sequence[Entry],
    failing: Failing,
    stop: Callable[[], bool] = lambda: False,
    pause: Callable[[], bool] = lambda: False,
    ranks: Ranks = ALONE,
) -> Generator[Of, None, None]:
    """Train all of them on one stream of activations; of each the same bits as alone.

    Each ends as `train` says, when its own steps are made or its `leaves` says so, or with what
    `failing` tells, while the others go on. Several are never split over ranks. Raises
    `ConfigError` where they cannot share a stream, and what concerns them all.
    """
    # Now and not once something is saved: a folder that was deleted under a run stays deleted.
    for entry in entries:
        entry.run_dir.mkdir(parents=True, exist_ok=True)
    check_specs([entry.spec for entry in entries])
    guard = Guard(failing)
    asked = yield from _asked(entries, guard, ranks)
    if not asked:
        return
    check_reading([(entry.spec, one) for entry, one in asked])

    # Whether they can fit, before anything large is loaded.
    wanted, fits = yield from fitting(sized(asked, ranks), guard, ranks)
    if fits is None:
        return
    if fits.warning:
        for one in wanted:
            yield one.entry.training_id, events.Warned(step=0, code="memory", message=fits.warning)

    # The SAEs; where a checkpoint verifies, go on from it. Then what is read for all of them.
    prepared = yield from _prepared(wanted, guard, fits, ranks)
    if not prepared:
        return
    check_formats([one.formats for one in prepared])
    check_disk(prepared)
    live: list[Member] = []

    def stops() -> bool:
        everyone_leaves = bool(live) and all(member.leaves for member in live)
        return stop() or pause() or everyone_leaves

    first = prepared[0]
    spec, asked_first = first.entry.spec, first.asked
    source = Source(spec, asked_first, first.formats, stops, ranks, fits.model_room)
    with closing(source):
        _begin(source, prepared)
        live.extend(Member(one, source, lambda: ranks.any(pause()), stop) for one in prepared)
        del first, asked_first, prepared  # a member that is gone is held by nobody
        try:
            yield from _all_of(live, source, guard, fits)
        except Exception:
            # What was saved is told before what went wrong.
            for member in live:
                yield from of(member.training_id, member.saved())
            raise
        finally:
            for member in live:
                member.close()


def _asked(
    entries: Sequence[Entry], guard: Guard, ranks: Ranks
) -> Generator[Of, None, list[tuple[Entry, Asked]]]:
    """What each is to do and what it reads."""
    found = []
    for entry in entries:
        one = yield from guard(entry.training_id, _asked_by(entry.spec, ranks))
        if one:
            found.append((entry, one))
    return found


def _asked_by(spec: RunSpec, ranks: Ranks) -> Generator[events.Event, None, Asked]:
    yield events.Phase(step=0, phase="loading_model")
    asked = Asked.by(spec).on(ranks)
    for problem in warnings(spec.config, asked.facts, asked.split.n_usable):
        yield events.Warned(step=0, code=problem.field, message=problem.message)
    return asked


def _prepared(
    wanted: Sequence[Sized], guard: Guard, fits: Preflight, ranks: Ranks
) -> Generator[Of, None, list[Prepared]]:
    found = []
    for one in wanted:
        work = Prepared.of(one.entry, one.asked, one.footprint, fits, ranks)
        made = yield from guard(one.entry.training_id, work)
        if made:
            found.append(made)
    return found


def _begin(source: Source, prepared: Sequence[Prepared]) -> None:
    """Where the one stands that has made the fewest steps, as far as the one that makes the most;
    by passes as small as the smallest that any has known."""
    earliest = min(prepared, key=lambda one: one.state.step).state
    num_steps = max(one.asked.plan.hyperparameters.num_steps for one in prepared)
    passes = [one.most_contexts for one in prepared if one.most_contexts is not None]
    source.begin(earliest.step, earliest.position, num_steps, min(passes, default=None))


def _all_of(
    live: list[Member], source: Source, guard: Guard, fits: Preflight
) -> Generator[Of, None, None]:
    """From the estimates on the first tokens to the end of the last one; `live` are those left."""
    yield from _each(live, guard, lambda member: member.settled())
    yield from _each(live, guard, lambda member: member.begun(fits.peak_bytes))
    while live:
        num_steps = max(member.num_steps for member in live)
        with source.read_ahead(num_steps) if fits.reads_ahead else nullcontext():
            stopped = yield from _steps(live, source, guard)
        # Not within: what reads ahead would use the model at the same time.
        yield from _ends(live, stopped, source, guard)


def _steps(live: list[Member], source: Source, guard: Guard) -> Generator[Of, None, bool]:
    """Train until one leaves; whether all were asked to stop."""
    for member in live:
        member.restart_clock()
    while live and not any(member.leaves for member in live):
        try:
            batch = source.next()
        except StopRequested:
            return True
        yield from _each(live, guard, partial(Member.advance, batch=batch))
    return False


def _ends(
    live: list[Member], stopped: bool, source: Source, guard: Guard
) -> Generator[Of, None, None]:
    """The end of those that leave, or of all."""
    leaving = [member for member in live if stopped or member.leaves]
    with source.held_out_kept(len(leaving)):
        while leaving:
            member = leaving.pop(0)
            yield from guard.member(member, member.end())
            _drop(live, member)


def _each(
    live: list[Member],
    guard: Guard,
    work: Callable[[Member], Generator[events.Event, None, bool]],
) -> Generator[Of, None, None]:
    """Have each do this; those with which it does not go well are dropped."""
    for member in tuple(live):
        if not (yield from guard.member(member, work(member))):
            _drop(live, member)


def _drop(live: list[Member], member: Member) -> None:
    live.remove(member)
    member.close()


def _raised(_training_id: str, _step: int, error: Exception) -> events.Event:
    """Of a run alone: what goes wrong ends it."""
    raise error
