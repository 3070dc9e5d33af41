"""Thinning a curve keeps what matters of it."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainings.views.downsample import Point
from trainings.views.downsample import downsample as _downsample

VALUES = st.lists(st.one_of(st.none(), st.floats(-1e9, 1e9)), max_size=400)


def downsample(points: list[Point], limit: int) -> list[Point]:
    steps = np.array([step for step, _ in points], dtype=np.int64)
    values = np.array([value for _, value in points], dtype=np.float64)
    return _downsample(steps, values, limit)


def test_short_curve_stays_as_it_is() -> None:
    assert downsample([(1, 0.5), (2, None)], 10) == [(1, 0.5), (2, None)]


def test_single_spike_survives() -> None:
    points = [(step, 99.0 if step == 7777 else 1.0) for step in range(10_000)]
    assert (7777, 99.0) in downsample(points, 100)


def test_stretch_without_numbers_stays_a_gap() -> None:
    points = [(step, None if step >= 500 else 1.0) for step in range(1000)]
    assert (None in [v for s, v in downsample(points, 50) if 500 < s < 999]) is True


def test_not_a_number_becomes_a_gap() -> None:
    assert downsample([(1, math.nan), (2, math.inf)], 10) == [(1, None), (2, None)]


@given(VALUES, st.integers(4, 60))
def test_limit_ends_and_extremes_hold_for_any_curve(values: list[float | None], limit: int) -> None:
    points = list(enumerate(values))
    thin = downsample(points, limit)
    assert len(thin) <= limit
    assert [s for s, _ in thin] == sorted({s for s, _ in thin})
    assert thin[:1] + thin[-1:] == points[:1] + points[-1:]
    known = [v for v in values if v is not None]
    if known:
        kept = [v for _, v in thin if v is not None]
        assert (min(kept), max(kept)) == (min(known), max(known))
