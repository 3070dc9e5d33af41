"""Runs that read their activations from one file system: simulated, and in closed form.

Each run reads its next chunk while it trains on the one before. The file system gives all that read
at a moment equal parts of its bandwidth.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Shared:
    """`runs` that read chunks of so many bytes and train on each for so many seconds on average.

    How long they train varies evenly by `spread` to both sides. Bandwidths in bytes per second:
    that of the file system, and what one client can take of it.
    """

    runs: int
    chunk_bytes: float
    chunk_seconds: float
    bandwidth: float
    client: float
    spread: float = 0.2

    @property
    def wanted(self) -> float:
        """Bandwidth at which none would wait."""
        return self.runs * self.chunk_bytes / self.chunk_seconds


def closed_form(shared: Shared) -> float:
    """The share of its time that a run trains: the file system, or itself, is the bottleneck."""
    its_part = min(shared.client, shared.bandwidth / shared.runs)
    return min(1.0, shared.chunk_seconds / (shared.chunk_bytes / its_part))


@dataclass
class _Run:
    unread: float
    training: float = 0.0  # seconds left of the chunk
    ready: bool = False  # the next chunk has arrived
    trained: float = 0.0
    chunks: int = 0


def simulated(shared: Shared, chunks: int = 40, seed: int = 0) -> float:
    """The same share, mean over the runs, counted from each one's first chunk to its last."""
    draw = random.Random(seed)
    # They begin one after the other within the time of a chunk.
    runs = [_Run(shared.chunk_bytes * (1 + draw.random())) for _ in range(shared.runs)]
    now, begun, ended = 0.0, [0.0] * len(runs), [0.0] * len(runs)
    while unfinished := [run for run in runs if run.chunks < chunks]:
        reading = [run for run in unfinished if not run.ready]
        rate = min(shared.client, shared.bandwidth / max(1, len(reading)))
        ahead = min(
            [run.unread / rate for run in reading]
            + [run.training for run in unfinished if run.training > 0]
        )
        now += ahead
        for run in unfinished:
            _pass_time(run, ahead, rate)
        for number, run in enumerate(runs):
            if run.chunks < chunks and run.ready and run.training == 0:
                if run.chunks == 0:
                    begun[number] = now
                _take(run, shared, draw)
            if run.chunks == chunks and not ended[number]:
                ended[number] = now
    shares = [
        run.trained / (end - start) for run, start, end in zip(runs, begun, ended, strict=True)
    ]
    return sum(shares) / len(shares)


def _pass_time(run: _Run, seconds: float, rate: float) -> None:
    trained = min(run.training, seconds)
    run.trained += trained
    run.training = _rounded(run.training - trained)
    if not run.ready:
        run.unread = _rounded(run.unread - seconds * rate)
        run.ready = run.unread == 0


def _take(run: _Run, shared: Shared, draw: random.Random) -> None:
    """Begin to train on the chunk that has arrived, and to read the next."""
    run.chunks += 1
    run.training = shared.chunk_seconds * draw.uniform(1 - shared.spread, 1 + shared.spread)
    run.ready, run.unread = False, shared.chunk_bytes


def _rounded(left: float) -> float:
    """What is left, without the rounding of what went before."""
    return left if left > 1e-6 else 0.0
