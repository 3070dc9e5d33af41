"""How kernels are compiled, and how their rows are shared out over threads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

log = logging.getLogger(__name__)

Kernel = TypeVar("Kernel", bound=Callable[..., Any])
Array = npt.NDArray[Any]
# Sums may be reordered and products fused, which lets them be vectorized; NaN and infinity keep
# their meaning, since a run that diverges has to be seen.
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "nsz"},
}
# Work is cut finer than there are threads: they may share the cores with other processes.
_PARTS_PER_THREAD = 8


def compiled(function: Kernel) -> Kernel:
    """Compile at the first call; the machine code is kept beside the source, or in the user's
    cache folder where that cannot be written."""
    try:
        kernel: Kernel = numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError as error:
        # Neither place can be written: every process then compiles for itself, some seconds long.
        log.warning("Compiled kernels cannot be kept: %s", error)
        kernel = numba.njit(**_OPTIONS)(function)
    return kernel


def in_parts(kernel: Callable[..., Any], total: int, *arguments: object) -> None:
    """Call `kernel(*arguments, first, last)` over all of `total` rows."""
    threads = torch.get_num_threads()
    parts = 1 if threads == 1 else min(total, threads * _PARTS_PER_THREAD)
    in_ranges(kernel, [total * i // max(parts, 1) for i in range(parts + 1)], *arguments)


def in_ranges(kernel: Callable[..., Any], cuts: Sequence[int], *arguments: object) -> None:
    """Call `kernel(*arguments, first, last)` for each two neighbours of `cuts`."""
    ranges = [(a, b) for a, b in pairwise(cuts) if a < b]
    threads = torch.get_num_threads()
    if threads == 1 or len(ranges) < 2:
        for first, last in ranges:
            kernel(*arguments, first, last)
        return
    for done in [_pool(threads).submit(kernel, *arguments, *part) for part in ranges]:
        done.result()


def array(tensor: Tensor) -> Array:
    """The tensor's memory; bfloat16, which NumPy does not know, as its bits in uint16."""
    tensor = tensor.contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    return tensor.numpy()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="kernels")
