"""The training step on a CUDA device: Triton kernels over the active pairs, and no waiting host.

Nothing here imports Triton until a step is taken on a device that can use it.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

__all__ = ["normalize", "remove_parallel", "usable"]

_CAPABILITY = (8, 0)  # the first with bfloat16 products


@cache
def usable(device: torch.device) -> bool:
    """Whether a step on this device is taken by `gpu.steps`; otherwise torch operations do it."""
    if device.type != "cuda" or torch.version.hip or find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= _CAPABILITY


def remove_parallel(g_FO: Tensor, W_FO: Tensor) -> None:
    """Take g's part along W out of each row, in place."""
    from . import directions

    directions.remove_parallel(g_FO, W_FO)


def normalize(W_FO: Tensor) -> None:
    """Divide each row by its length, in place."""
    from . import directions

    directions.normalize(W_FO)
