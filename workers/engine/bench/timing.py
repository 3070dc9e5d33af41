"""Contenders timed in turns, so that what the machine does meanwhile hits all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Work = Callable[[Tensor], object]


@dataclass(frozen=True)
class Times:
    """Seconds of one call per round, in the order of the rounds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        return min(self.seconds)

    def ratio(self, other: Times) -> float:
        """How many times as fast this is as `other`: the median over rounds, each its own pair."""
        pairs = zip(other.seconds, self.seconds, strict=True)
        return statistics.median(theirs / ours for theirs, ours in pairs)


def in_turns(
    contenders: dict[str, Work], batches: list[Tensor], rounds: int, device: torch.device
) -> dict[str, Times]:
    """Time every contender once per round on that round's batch, after two calls uncounted."""
    for work in contenders.values():
        for batch in batches[:2]:
            work(batch)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        batch = batches[number % len(batches)]
        for name, work in contenders.items():
            wait(device)
            begun = time.perf_counter()
            work(batch)
            wait(device)
            seconds[name].append(time.perf_counter() - begun)
    return {name: Times(tuple(found)) for name, found in seconds.items()}


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
