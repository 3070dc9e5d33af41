"""A chunk of activations of which each rank has read a share, made whole on every rank.

Shapes: M tokens in a chunk, D width.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import accumulate, pairwise

import numpy as np
import torch

from ..activations import Activations, Reader, StopRequested
from ..order import Part
from .group import Ranks


def exchanged(
    ranks: Ranks, reader: Reader, parts: Sequence[Part], read: Callable[[], Activations]
) -> Activations:
    """All tokens of the parts, in order. `read` gives those of this rank's, `ranks.mine(parts)`.

    Raises `StopRequested` on every rank where one of them was asked to stop while it read.
    """
    own: Activations | None = None
    with suppress(StopRequested):
        own = read()
    if ranks.any(own is None):
        raise StopRequested
    assert own is not None
    begun, contexts = time.perf_counter(), [reader.contexts(part) for part in parts]
    ends = [0, *accumulate(len(of_part) for of_part in contexts)]
    # The first part is the first rank's, so what that one has read tells what there is.
    shapes = ranks.told([[tensor.shape[1], str(tensor.dtype)[6:]] for tensor in own.tensors])
    whole = [
        torch.empty((ends[-1], width), dtype=getattr(torch, dtype), device=reader.device)
        for width, dtype in shapes
    ]
    taken = 0
    for index, (start, stop) in enumerate(pairwise(ends)):
        source, rows = ranks.owner(index), slice(start, stop)
        if source == ranks.number:
            for into, of_site in zip(whole, own.tensors, strict=True):
                into[rows] = of_site[taken : taken + stop - start]
            taken += stop - start
        if stop > start:
            for into in whole:
                ranks.spread(into[rows], source)
    seconds = own.seconds + time.perf_counter() - begun
    return Activations(whole[0], whole[-1], np.concatenate(contexts), seconds)
