"""Notices a loss that is no longer finite within a few steps, without making a GPU's host wait."""

from __future__ import annotations

import torch
from torch import Tensor


class Divergence:
    """Looks at the loss summed over the window, which stays broken once one step's loss was.

    On a processor every step is looked at. On a GPU the sum is copied to pinned memory behind the
    step's kernels, and looked at in the first later step by which the copy has arrived.
    """

    def __init__(self) -> None:
        self._copy: tuple[Tensor, torch.cuda.Event] | None = None

    def found(self, loss_sum: Tensor) -> bool:
        """Whether a step so far is known to have had no finite loss."""
        if not loss_sum.is_cuda:
            return not bool(loss_sum.isfinite())
        if self._copy is None:
            self._copy = _copied(loss_sum)
            return False
        value, arrived = self._copy
        if not arrived.query():  # type: ignore[no-untyped-call]
            return False
        self._copy = None
        return not bool(value.isfinite())


def _copied(value: Tensor) -> tuple[Tensor, torch.cuda.Event]:
    host = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
    host.copy_(value, non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record()
    return host, arrived
