"""Runs that wait, trainers that take them, hosts that fail: simulated, and in closed form.

Times are in seconds. Both follow the studio's rules: whoever was queued first is taken first, an
interrupted run keeps its place and goes on from its newest checkpoint, its lease has to end and the
sweeper has to look before it is queued again.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

HOUR = 3600.0


@dataclass(frozen=True)
class Studio:
    """Trainers and what befalls them; `load` is the work that arrives, as a share of their time.

    Runs arrive at random (Poisson) and take `mean_run` on average (exponential). `mtbf` is that of
    a host of `per_host` trainers; 0 for hosts that never fail.
    """

    trainers: int
    load: float
    mean_run: float = 4 * HOUR
    per_host: int = 8
    mtbf: float = 0.0
    repair: float = HOUR
    checkpoint_every: float = 900.0
    starting: float = 0.0
    lease: float = 60.0
    sweep_every: float = 30.0

    @property
    def hosts(self) -> int:
        return max(1, self.trainers // self.per_host)

    @property
    def rate(self) -> float:
        return self.load * self.trainers / self.mean_run


@dataclass(frozen=True)
class Outcome:
    """Seconds: `waited` before its first start, of a run; `lost`, of work made again, and `absent`,
    until it is queued again, of an interruption. `busy` is the share of trainers' time with a run.
    """

    waited: float
    lost: float
    absent: float
    busy: float
    interruptions: int = 0


@dataclass
class _Run:
    number: int
    work: float
    submitted: float
    done: float = 0.0
    started: float | None = None


@dataclass
class _Trainer:
    up: bool = True
    run: _Run | None = None
    begun: float = 0.0
    turn: int = 0  # counts what it began, so that an end that was overtaken is known


@dataclass
class Simulation:
    """One studio, from its first run until `runs` have ended; the same seed gives the same."""

    studio: Studio
    runs: int
    seed: int = 0
    now: float = 0.0
    _events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = field(
        default_factory=list
    )
    _order: Any = field(default_factory=itertools.count)
    _queue: list[tuple[int, _Run]] = field(default_factory=list)
    _ended: int = 0
    _busy: float = 0.0
    _waited: list[float] = field(default_factory=list)
    _lost: list[float] = field(default_factory=list)
    _absent: list[float] = field(default_factory=list)

    def outcome(self) -> Outcome:
        self._random = random.Random(self.seed)
        self._trainers = [_Trainer() for _ in range(self.studio.trainers)]
        self._submit(0)
        if self.studio.mtbf:
            for host in range(self.studio.hosts):
                self._in(self._random.expovariate(1 / self.studio.mtbf), self._fail, host)
        while self._ended < self.runs:
            self.now, _, happens, of = heapq.heappop(self._events)
            happens(*of)
        for trainer in self._trainers:
            self._leave(trainer)
        settled = self._waited[len(self._waited) // 10 :]  # the studio was empty at its start
        return Outcome(
            waited=_mean(settled),
            lost=_mean(self._lost),
            absent=_mean(self._absent),
            busy=self._busy / self.now / self.studio.trainers,
            interruptions=len(self._lost),
        )

    def _in(self, seconds: float, happens: Callable[..., None], *of: Any) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), happens, of))

    def _submit(self, number: int) -> None:
        work = self._random.expovariate(1 / self.studio.mean_run)
        self._wait(_Run(number, work, self.now))
        self._in(self._random.expovariate(self.studio.rate), self._submit, number + 1)

    def _wait(self, run: _Run) -> None:
        heapq.heappush(self._queue, (run.number, run))
        self._dispatch()

    def _dispatch(self) -> None:
        free = (t for t in self._trainers if t.up and t.run is None)
        while self._queue and (trainer := next(free, None)):
            _, run = heapq.heappop(self._queue)
            if run.started is None:
                run.started = self.now
                self._waited.append(self.now - run.submitted)
            trainer.run, trainer.begun, trainer.turn = run, self.now, trainer.turn + 1
            left = self.studio.starting + run.work - run.done
            self._in(left, self._end, trainer, trainer.turn)

    def _end(self, trainer: _Trainer, turn: int) -> None:
        if trainer.run is None or trainer.turn != turn:
            return
        self._leave(trainer)
        self._ended += 1
        self._dispatch()

    def _leave(self, trainer: _Trainer) -> None:
        if trainer.run:
            self._busy += self.now - trainer.begun
        trainer.run = None

    def _fail(self, host: int) -> None:
        """All trainers of the host are gone, and what they did since their checkpoints."""
        for trainer in self._of(host):
            trainer.up = False
            if trainer.run:
                self._interrupt(trainer, trainer.run)
        self._in(self.studio.repair, self._come_back, host)

    def _interrupt(self, trainer: _Trainer, run: _Run) -> None:
        studio = self.studio
        reached = run.done + max(0.0, self.now - trainer.begun - studio.starting)
        kept = reached // studio.checkpoint_every * studio.checkpoint_every
        self._lost.append(reached - kept)
        run.done = max(run.done, kept)
        lease_ends = self.now + studio.lease
        seen = math.ceil(lease_ends / studio.sweep_every) * studio.sweep_every
        self._absent.append(seen - self.now)
        self._leave(trainer)
        self._in(seen - self.now, self._wait, run)

    def _come_back(self, host: int) -> None:
        for trainer in self._of(host):
            trainer.up = True
        self._in(self._random.expovariate(1 / self.studio.mtbf), self._fail, host)
        self._dispatch()

    def _of(self, host: int) -> list[_Trainer]:
        return self._trainers[host :: self.studio.hosts]


def erlang_c(servers: int, offered: float) -> float:
    """The probability that an arrival waits in M/M/c; `offered` is arrivals times mean service."""
    term, total = 1.0, 1.0
    for n in range(1, servers):
        term *= offered / n
        total += term
    waiting = term * offered / servers * servers / (servers - offered)
    return waiting / (total + waiting)


def closed_form(studio: Studio) -> Outcome:
    """M/M/c, where a run takes longer by what is lost and its trainer is away for repairs.

    Half of a checkpoint's interval is lost, the lease and half of the sweeper's round pass until it
    is queued again.
    """
    lost = studio.checkpoint_every / 2 if studio.mtbf else 0.0
    absent = studio.lease + studio.sweep_every / 2 if studio.mtbf else 0.0
    taken, there = studio.mean_run + studio.starting, 1.0
    if studio.mtbf:
        taken *= 1 + (lost + studio.starting) / studio.mtbf
        there = studio.mtbf / (studio.mtbf + studio.repair)
    offered = studio.rate * taken / there
    if offered >= studio.trainers:
        return Outcome(math.inf, lost, absent, there)
    mean = taken / there / (studio.trainers - offered)
    return Outcome(
        waited=erlang_c(studio.trainers, offered) * mean,
        lost=lost,
        absent=absent,
        busy=offered * there / studio.trainers,
    )


def best_interval(saving: float, mtbf: float) -> float:
    """Young's interval between checkpoints: what saving costs equals what is lost."""
    return math.sqrt(2 * saving * mtbf)


def without_failures(studio: Studio) -> Studio:
    return replace(studio, mtbf=0.0, starting=0.0)


def _mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.0
