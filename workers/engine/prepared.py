"""A training whose weights are made or restored, before there is anything to train on."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from .asked import Asked
from .config import RunSpec
from .events import Event, Started
from .language_model import dtype_name
from .preflight import Footprint, Preflight
from .ranks import Ranks
from .resuming import newest
from .source import Formats
from .start import Start
from .state import State


@dataclass(frozen=True)
class Entry:
    """A training that is asked for; `leaves` says whether it alone was asked to stop."""

    spec: RunSpec
    run_dir: Path
    leaves: Callable[[], bool] = lambda: False

    @property
    def training_id(self) -> str:
        return self.spec.training_id


@dataclass
class Prepared:
    """Its state, and what a checkpoint says of how its activations were read.

    `start` is the SAE that it continues, until it is taken over.
    """

    entry: Entry
    asked: Asked
    footprint: Footprint
    formats: Formats
    state: State
    resumed_from: int | None
    most_contexts: int | None
    start: Start | None

    @classmethod
    def of(
        cls,
        entry: Entry,
        asked: Asked,
        footprint: Footprint,
        fits: Preflight,
        ranks: Ranks,
    ) -> Generator[Event, None, Prepared]:
        """Go on from a checkpoint that verifies, or begin."""
        spec, plan = entry.spec, asked.plan
        loaded = yield from newest(spec, entry.run_dir, asked, ranks)
        start = None
        if spec.start_from and not loaded:  # from a checkpoint on it is not needed any more
            start = Start.read(spec.start_from, plan)
            spec = spec.model_copy(update={"start_from": start.spec})
        settled = Formats(footprint.dtype, footprint.held)
        formats = Formats.named(loaded[1]) if loaded else settled
        state = State.fresh(plan, asked.device, formats.computed, ranks)
        state.micro.count = fits.micro_batches
        if loaded:
            state.restore(*loaded)
        return cls(
            entry=Entry(spec, entry.run_dir, entry.leaves),
            asked=asked,
            footprint=footprint,
            formats=formats,
            state=state,
            resumed_from=state.step if loaded else None,
            most_contexts=loaded[1].get("most_contexts") if loaded else None,
            start=start,
        )

    def started(self, cached_fraction: float | None, memory_bytes: int) -> Started:
        plan, spec = self.asked.plan, self.entry.spec
        return Started(
            step=self.state.step,
            num_steps=plan.hyperparameters.num_steps,
            resumed_from=self.resumed_from,
            d_in=plan.d_in,
            d_sae=plan.d_sae,
            k=plan.k,
            device=self.asked.device.type,
            dtype=dtype_name(self.formats.computed),
            held_dtype=dtype_name(self.formats.held),
            cached_fraction=cached_fraction,
            tokens=self.asked.split.n_usable,
            dead_window_tokens=plan.dead_window_tokens,
            memory_bytes=memory_bytes,
            start_digest=spec.start_from.digest if spec.start_from else None,
        )
