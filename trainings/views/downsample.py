"""Thin a long curve without losing what makes it worth looking at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Point = tuple[int, float | None]


def downsample(steps: NDArray[np.int64], values: NDArray[np.float64], limit: int) -> list[Point]:
    """At most `limit` points (at least 4): first, last, and each bucket's minimum and maximum.

    steps, values: [n], in the order of the steps. What is not finite becomes None; a bucket
    without any finite value stays as one point of None, a gap in the curve.
    """
    chosen = np.arange(len(steps)) if len(steps) <= limit else _extremes(values, limit)
    finite = np.isfinite(values[chosen])
    return [
        (step, value if known else None)
        for step, value, known in zip(
            steps[chosen].tolist(), values[chosen].tolist(), finite.tolist(), strict=True
        )
    ]


def _extremes(values: NDArray[np.float64], limit: int) -> NDArray[np.intp]:
    """Places of the first and last value, and of the extremes of the buckets between them."""
    inner = len(values) - 2
    size = -(-inner // max(1, (limit - 2) // 2))
    buckets = -(-inner // size)
    padded = np.full(buckets * size, np.nan)
    padded[:inner] = values[1:-1]
    table = padded.reshape(buckets, size)
    finite = np.isfinite(table)
    low = np.where(finite, table, np.inf).argmin(axis=1)
    high = np.where(finite, table, -np.inf).argmax(axis=1)
    starts = 1 + size * np.arange(buckets)
    return np.unique(np.concatenate([[0], starts + low, starts + high, [inner + 1]]))
