"""Sums over the tokens of a batch, in double precision, without a copy in double precision."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .compiled import Array, array, compiled, in_ranges

# Fixed, so that the sums do not depend on the number of threads.
_PARTS = 16


def sums(m_BO: Tensor) -> Tensor:
    """[O] in float64, equal to `m_BO.sum(0, dtype=torch.float64)`."""
    parts = np.zeros((_PARTS, m_BO.shape[1]))
    rows = array(m_BO)
    cuts = [len(rows) * i // _PARTS for i in range(_PARTS + 1)]
    in_ranges(_sums, cuts, rows, parts, np.asarray(cuts))
    return torch.from_numpy(parts.sum(0))


@compiled
def _sums(rows: Array, parts: Array, cuts: Array, first: int, last: int) -> None:
    part = parts[np.searchsorted(cuts, first, "right") - 1]
    for b in range(first, last):
        row = rows[b]
        for o in range(len(row)):
            part[o] += row[o]
