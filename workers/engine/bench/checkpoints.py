"""What checkpoints cost a training: the wait for the copy, and the cores that writing it takes."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..events import CheckpointSaved
from ..saver import Saver
from .steps import Runner

# The smallest interval a run may have.
INTERVAL = 1000
_QUIET_STEPS = 4


@dataclass(frozen=True)
class Checkpoints:
    """Medians over the rounds, of one checkpoint.

    The training stands still for `stalled_seconds`; writing takes `beside_seconds`, by which the
    steps made meanwhile are slower by `slowed_seconds` altogether. `percent` is both as a part of
    the wall time of `INTERVAL` steps; a real run also reads activations, which makes it less.
    """

    bytes: int
    stalled_seconds: float
    beside_seconds: float
    slowed_seconds: float
    percent: float


def measure(runner: Runner, batches: list[Tensor], rounds: int, folder: Path) -> Checkpoints:
    """In each round some steps alone, then a checkpoint and steps until it lies on the disk."""
    told: list[CheckpointSaved] = []
    quiet: list[float] = []
    stalled: list[float] = []
    slowed: list[float] = []
    with Saver(folder) as saver:
        for number in range(rounds):
            quiet.append(_timed(runner, batches, _QUIET_STEPS) / _QUIET_STEPS)
            begun = time.perf_counter()
            runner.state.sae.is_finite()  # as a run looks before it saves
            tensors, numbers = runner.state.snapshot()
            told.extend(saver.begin(number, tensors, numbers, None))
            stalled.append(time.perf_counter() - begun)
            begun, steps = time.perf_counter(), 0
            while len(told) <= number:
                runner(batches[steps % len(batches)])
                steps += 1
                told.extend(saver.done())
            slowed.append(time.perf_counter() - begun - steps * quiet[-1])
    lost = max(0.0, statistics.median(slowed))
    still = statistics.median(stalled)
    alone = INTERVAL * statistics.median(quiet)
    return Checkpoints(
        bytes=told[-1].bytes,
        stalled_seconds=still,
        beside_seconds=statistics.median(event.seconds for event in told),
        slowed_seconds=lost,
        percent=100 * (still + lost) / (alone + still + lost),
    )


def _timed(runner: Runner, batches: list[Tensor], steps: int) -> float:
    begun = time.perf_counter()
    for number in range(steps):
        runner(batches[number % len(batches)])
    runner.l0()  # waits for the device
    return time.perf_counter() - begun
