"""Which latents of each token are active, found in one or two passes over its pre-activations."""

from __future__ import annotations

import numpy as np
import torch
from numba import types
from numba.extending import overload
from torch import Tensor

from .compiled import Array, array, compiled, in_parts

# A row is looked through in pieces of so many latents: whether any of them is of interest is one
# vectorized comparison, and mostly none is.
_PIECE = 16
# The first rows tell whether so many latents are active that nothing is gained here.
_SAMPLE_ROWS = 512


def top(pre_BF: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Latents [B, k] in int32 and values [B, k] of the k largest of each row, in no set order.

    Equal to `pre_BF.topk(k)` but for ties, and infinite where that is NaN, so that a broken loss is
    seen. Values of a bfloat16 input are float32.
    """
    values_BK = pre_BF.new_empty((len(pre_BF), k), dtype=_values(pre_BF))
    latents_BK = torch.empty((len(pre_BF), k), dtype=torch.int32)
    if k:
        arrays = array(pre_BF), latents_BK.numpy(), values_BK.numpy()
        in_parts(_top, len(pre_BF), *arrays)
    return latents_BK, values_BK


def above(
    pre_BF: Tensor, floor: Tensor | float, most: float
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Starts [B + 1], latents [N] in int32 and values [N] of all pre > floor, row by row.

    `floor` is a number or [F]. None where the first rows hold more than `most`, a share of all
    pairs. NaN counts as above, so that it is not lost.
    """
    B, F = pre_BF.shape
    dtype = _values(pre_BF)
    floor_F = torch.as_tensor(floor, dtype=dtype).expand(F)
    pre, floors, counts = array(pre_BF), array(floor_F), np.zeros(B, np.int64)
    first = min(B, _SAMPLE_ROWS)
    in_parts(_count, first, pre, floors, counts)
    if counts[:first].sum() > most * first * F:
        return None
    _count_rest(pre, floors, counts, first)
    starts = np.zeros(B + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    latents_N = torch.empty(int(starts[-1]), dtype=torch.int32)
    values_N = torch.empty(int(starts[-1]), dtype=dtype)
    in_parts(_fill, B, pre, floors, starts, latents_N.numpy(), values_N.numpy())
    return torch.from_numpy(starts), latents_N, values_N


def _values(pre_BF: Tensor) -> torch.dtype:
    return torch.float32 if pre_BF.dtype == torch.bfloat16 else pre_BF.dtype


def _count_rest(pre: Array, floors: Array, counts: Array, first: int) -> None:
    in_parts(_count, len(pre) - first, pre[first:], floors, counts[first:])


def _row(pre: Array, b: int, space: Array) -> Array:
    """Row `b` as floats: itself, or the numbers of its bfloat16 bits written to `space`."""
    raise NotImplementedError("called from compiled code only")


@overload(_row)
def _row_compiled(pre, b, space):  # type: ignore[no-untyped-def]
    if pre.dtype != types.uint16:
        return lambda pre, b, space: pre[b]

    def widened(pre, b, space):  # type: ignore[no-untyped-def]
        bits = space.view(np.uint32)
        for f in range(len(bits)):
            bits[f] = np.uint32(pre[b, f]) << 16
        return space

    return widened


@compiled
def _top(pre: Array, latents: Array, values: Array, first: int, last: int) -> None:
    """Rows `first` to `last` of `top`.

    Of 4 k interleaved groups of a row the k-th largest maximum is at most the row's k-th largest
    value, and little less: what lies below is passed over, the few that are left are parted by
    quickselect.
    """
    F, k = pre.shape[1], values.shape[1]
    groups = min(4 * k, F)
    maxima = np.empty(groups, values.dtype)
    found = np.empty(F + 1, values.dtype)  # one more: what is passed over is written, too
    which = np.empty(F + 1, np.int32)
    space = np.empty(F, values.dtype)
    for b in range(first, last):
        row = _row(pre, b, space)
        for g in range(groups):
            maxima[g] = row[g]
        for f in range(groups, F - groups + 1, groups):
            for g in range(groups):
                v = row[f + g]
                maxima[g] = maxima[g] if v <= maxima[g] else v
        for g in range(groups):
            which[g] = g
        _part(maxima, which, groups, k)
        floor = maxima[0]
        for g in range(1, k):
            floor = min(floor, maxima[g])
        n = 0
        for f in range(0, F, _PIECE):
            end = min(f + _PIECE, F)
            hits = 0
            for q in range(f, end):
                hits += not row[q] < floor
            if hits:
                for q in range(f, end):
                    found[n] = row[q] if row[q] == row[q] else np.inf
                    which[n] = q
                    n += not row[q] < floor  # no branch: half of them would be guessed wrong
        _part(found, which, n, k)
        values[b] = found[:k]
        latents[b] = which[:k]


@compiled
def _part(values: Array, which: Array, n: int, k: int) -> None:
    """Bring the k largest of the first n values to the front (Hoare's quickselect)."""
    low, high = 0, n - 1
    while low < high:
        pivot = values[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                which[i], which[j] = which[j], which[i]
                i += 1
                j -= 1
        if k - 1 <= j:
            high = j
        elif k - 1 >= i:
            low = i
        else:
            return


@compiled
def _count(pre: Array, floors: Array, counts: Array, first: int, last: int) -> None:
    space = np.empty(pre.shape[1], floors.dtype)
    for b in range(first, last):
        row = _row(pre, b, space)
        n = 0
        for f in range(len(row)):
            n += not row[f] <= floors[f]
        counts[b] = n


@compiled
def _fill(
    pre: Array,
    floors: Array,
    starts: Array,
    latents: Array,
    values: Array,
    first: int,
    last: int,
) -> None:
    F = pre.shape[1]
    space = np.empty(F, floors.dtype)
    for b in range(first, last):
        row = _row(pre, b, space)
        n = starts[b]
        for f in range(0, F, _PIECE):
            end = min(f + _PIECE, F)
            hits = 0
            for q in range(f, end):
                hits += not row[q] <= floors[q]
            if hits:
                for q in range(f, end):
                    if not row[q] <= floors[q]:
                        latents[n] = q
                        values[n] = row[q]
                        n += 1
