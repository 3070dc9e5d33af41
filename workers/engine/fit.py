"""Whether trainings fit into memory and on the disk, and which of several fit together."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

from . import events
from .asked import Asked
from .guard import Guard, Of
from .language_model import dtype_name, held_dtype, settled_dtype
from .model import model_size
from .preflight import Footprint, Preflight, TooLarge, preflight, room_on_disk
from .prepared import Entry, Prepared
from .ranks import Ranks
from .source import Formats


@dataclass(frozen=True)
class Sized:
    """A training and what it takes."""

    entry: Entry
    asked: Asked
    footprint: Footprint


def sized(asked: Sequence[tuple[Entry, Asked]], ranks: Ranks) -> list[Sized]:
    """They agree on what is read, and so in number formats and the model."""
    entry, first = asked[0]
    h, device = first.plan.hyperparameters, first.device
    name = ranks.told(dtype_name(settled_dtype(h.dtype, device)))
    dtype, held = Formats.named({"dtype": name, "held": dtype_name(held_dtype(h.dtype))})
    size = model_size(entry.spec.model_path, first.facts.d_model, first.plan.deepest_layer)
    usable = first.split.n_usable
    found = []
    for each, one in asked:
        share = replace(one.plan, d_sae=-(-one.plan.d_sae // ranks.count))
        footprint = Footprint(share, size, usable, device, dtype, held, ranks.count)
        found.append(Sized(each, one, footprint))
    return found


def fitting(
    wanted: Sequence[Sized], guard: Guard, ranks: Ranks
) -> Generator[Of, None, tuple[list[Sized], Preflight | None]]:
    """The first of them that fit into memory together, and how; before anything large is loaded.

    The others are put aside, for another process: `Paused` before their first step here. One that
    does not fit alone fails.
    """
    left = list(wanted)
    while left:
        for count in range(len(left), 1, -1):
            try:
                fits = _agreed(preflight(_together(left[:count])), ranks)
            except TooLarge:
                continue
            yield from _put_aside(left[count:], count)
            return left[:count], fits
        first = left[0]
        alone = yield from guard(first.entry.training_id, _alone(first, ranks))
        if alone:
            yield from _put_aside(left[1:], 1)
            return left[:1], alone
        del left[0]
    return [], None


def check_disk(prepared: Sequence[Prepared]) -> None:
    """For those that begin: what others go on from is safe, and their next checkpoint looks for
    itself. Raises `TrainingError`."""
    fresh = [one for one in prepared if one.resumed_from is None]
    if fresh:
        wanted = Footprint.together([one.footprint for one in fresh])
        room_on_disk(wanted, fresh[0].entry.run_dir)


def _together(some: Sequence[Sized]) -> Footprint:
    return Footprint.together([one.footprint for one in some])


def _alone(one: Sized, ranks: Ranks) -> Generator[events.Event, None, Preflight]:
    yield from ()
    return _agreed(preflight(one.footprint), ranks)


def _put_aside(some: Sequence[Sized], kept: int) -> Generator[Of, None, None]:
    if not some:
        return
    of_all = kept + len(some)
    message = (
        f"Of {of_all} trainings that share their activations {kept} fit into memory together; "
        "this one waits for another worker, or until they have ended."
    )
    for one in some:
        yield one.entry.training_id, events.Warned(step=0, code="memory", message=message)
        yield one.entry.training_id, events.Paused(step=0)


def _agreed(fits: Preflight, ranks: Ranks) -> Preflight:
    """What fits on every rank."""
    count, waits = ranks.most(fits.micro_batches), ranks.any(not fits.reads_ahead)
    return replace(fits, micro_batches=count, reads_ahead=not waits)
