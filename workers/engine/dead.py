"""Which latents are dead: those that fired too rarely over the last window of tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_PARTS = 10


class DeadLatents:
    """Counts firings over a sliding window of `window` tokens, kept in ten parts and the present.

    A latent is dead when it fired in at most `threshold` of the window's tokens. Before a whole
    window has been seen `indices` is None: a latent that had no chance to fire is not treated.
    """

    def __init__(self, d_sae: int, window: int, threshold: float, device: torch.device) -> None:
        self._window, self._threshold = window, threshold
        self._part_tokens = -(-window // _PARTS)
        self._counts = torch.zeros(_PARTS + 1, d_sae, dtype=torch.int64, device=device)
        self._tokens = [0] * (_PARTS + 1)
        self._now = 0
        self.indices: Tensor | None = None

    @property
    def tokens(self) -> int:
        """Tokens that the counts are over: the window, or fewer while it fills."""
        return sum(self._tokens)

    def add(self, fired_F: Tensor, tokens: int) -> None:
        self._counts[self._now] += fired_F
        self._tokens[self._now] += tokens
        if self._tokens[self._now] >= self._part_tokens:
            self._turn()

    def count(self) -> int:
        """Dead latents over the tokens counted so far; waits for the device."""
        return int(self._dead().sum())

    def restart(self) -> None:
        """Begin a new window, as after resampling: the new latents have had no chance yet."""
        self._counts.zero_()
        self._tokens = [0] * (_PARTS + 1)
        self._now, self.indices = 0, None

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        none = self._counts.new_zeros(0)
        indices = none if self.indices is None else self.indices
        tensors = {"counts": self._counts, "indices": indices}
        return tensors, {"tokens": self._tokens, "now": self._now}

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        self._counts.copy_(tensors["counts"])
        indices = tensors["indices"].to(self._counts.device)
        self.indices = indices if len(indices) else None
        self._tokens, self._now = list(numbers["tokens"]), numbers["now"]

    def _turn(self) -> None:
        """A part is full. Only here, once in many steps, does the host wait for the indices."""
        if self.tokens >= self._window:
            dead = self._dead().nonzero().squeeze(1)
            self.indices = dead if len(dead) else None
        self._now = (self._now + 1) % (_PARTS + 1)
        self._counts[self._now].zero_()
        self._tokens[self._now] = 0

    def _dead(self) -> Tensor:
        return self._counts.sum(0) <= self._threshold * self.tokens
