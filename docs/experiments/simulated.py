"""The tables of docs/scaling.md that a simulation makes, beside the closed forms."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

import queueing
from arithmetic import BUFFER_TOKENS
from hardware import LLAMA_8B, sae_of
from queueing import HOUR, Outcome, Simulation, Studio
from storage import Shared, closed_form
from storage import simulated as trained
from tables import alone_seconds
from words import amount, duration, number, table

SEEDS, RUNS = 10, 10_000
TRAINERS, LOADS, MTBFS = (1, 8, 64), (0.8, 0.9), (0.0, 24 * HOUR)
BANDWIDTHS, CLIENT = (1e9, 5e9, 20e9, 100e9), 10e9


@dataclass(frozen=True)
class Repeated:
    """A studio simulated with several seeds; `error` is twice the standard error of `waited`."""

    studio: Studio
    outcomes: list[Outcome]

    @classmethod
    def of(cls, studio: Studio, seeds: int = SEEDS, runs: int = RUNS) -> Repeated:
        return cls(studio, [Simulation(studio, runs, seed).outcome() for seed in range(seeds)])

    def mean(self, name: str) -> float:
        return statistics.mean(getattr(found, name) for found in self.outcomes)

    @property
    def error(self) -> float:
        waited = [found.waited for found in self.outcomes]
        return 2 * statistics.stdev(waited) / len(waited) ** 0.5


def studios() -> Iterator[Studio]:
    for mtbf in MTBFS:
        for trainers in TRAINERS:
            for load in LOADS:
                starting = 60.0 if mtbf else 0.0
                yield Studio(
                    trainers, load, per_host=min(trainers, 8), mtbf=mtbf, starting=starting
                )


def queue() -> str:
    titles = ["trainers", "load", "a host fails every", "waits: simulated", "M/M/c"]
    titles += ["lost: simulated", "closed", "queued again after: simulated", "closed"]
    titles += ["busy: simulated", "closed"]
    return table(titles, (queue_row(Repeated.of(studio)) for studio in studios()))


def queue_row(found: Repeated) -> list[str]:
    studio, closed = found.studio, queueing.closed_form(found.studio)
    row = [str(studio.trainers), f"{studio.load:.0%}".replace("%", " %")]
    row += [duration(studio.mtbf) if studio.mtbf else "never"]
    row += [f"{_minutes(found.mean('waited'))} ± {_minutes(found.error)} min"]
    row += [f"{_minutes(closed.waited)} min"]
    for name in ("lost", "absent"):
        both = (found.mean(name), getattr(closed, name))
        row += [f"{number(value)} s" if studio.mtbf else "" for value in both]
    return row + [f"{100 * value:.1f} %" for value in (found.mean("busy"), closed.busy)]


def _minutes(seconds: float) -> str:
    return number(seconds / 60)


def file_system() -> str:
    own = sae_of(LLAMA_8B, 8)
    chunk = BUFFER_TOKENS / own.batch * alone_seconds(own, 1)
    size = float(BUFFER_TOKENS * LLAMA_8B.activation_bytes)
    titles = ["runs", "they want", *(amount(b, "B/s") for b in BANDWIDTHS), "just what they want"]
    rows = []
    for runs in TRAINERS:
        wanted = Shared(runs, size, chunk, 1.0, CLIENT).wanted
        shared = [Shared(runs, size, chunk, b, CLIENT) for b in (*BANDWIDTHS, wanted)]
        cells = [f"{_percent(trained(one))}, {_percent(closed_form(one))}" for one in shared]
        rows.append([str(runs), amount(wanted, "B/s"), *cells])
    return table(titles, rows)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
