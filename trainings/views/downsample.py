"""Thin a long curve without losing what makes it worth looking at."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

Point = tuple[int, float | None]


def downsample(points: Sequence[Point], limit: int) -> list[Point]:
    """At most `limit` points (at least 4): first, last, and each bucket's minimum and maximum.

    A bucket without any finite value stays as one point of None, a gap in the curve.
    """
    clean: list[Point] = [(step, _finite(value)) for step, value in points]
    if len(clean) <= limit:
        return clean
    inner = clean[1:-1]
    buckets = max(1, (limit - 2) // 2)
    edges = [round(i * len(inner) / buckets) for i in range(buckets + 1)]
    middle = [p for a, b in pairwise(edges) for p in _extremes(inner[a:b])]
    return [clean[0], *middle, clean[-1]]


def _extremes(bucket: Sequence[Point]) -> Iterator[Point]:
    known = [(value, step) for step, value in bucket if value is not None]
    if not known:
        yield from bucket[:1]
        return
    low, high = min(known), max(known)
    for step in sorted({low[1], high[1]}):
        yield step, low[0] if step == low[1] else high[0]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
