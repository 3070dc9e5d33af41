"""Which latents are dead: those that fired too rarely over the last window of tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .ranks import ALONE, Ranks
from .sae import gpu

_PARTS = 10


class DeadLatents:
    """Counts firings over a sliding window of `window` tokens, kept in ten parts and the present.

    A latent is dead when it fired in at most `threshold` of the window's tokens. Before a whole
    window has been seen `indices` is None: a latent that had no chance to fire is not treated.

    Of several ranks each counts its own latents of the `d_sae`, and `indices` are of those. They
    are None on all ranks or on none.
    """

    def __init__(
        self,
        d_sae: int,
        window: int,
        threshold: float,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        self._window, self._threshold, self._ranks = window, threshold, ranks
        self._part_tokens = -(-window // _PARTS)
        own = len(range(d_sae)[ranks.share(d_sae)])
        self._counts = torch.zeros(_PARTS + 1, own, dtype=torch.int64, device=device)
        self._tokens = [0] * (_PARTS + 1)
        self._now = 0
        self._filled_up = gpu.usable(device) and ranks.alone
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
        return self._ranks.total(int(self._dead().sum()))

    def frequency(self) -> Tensor:
        """Share of the counted tokens on which each latent fired [F]; waits for nothing."""
        return self._ranks.joined(self._counts.sum(0)) / max(self.tokens, 1)

    def known(self) -> Tensor | None:
        """The indices of dead latents alone, None where there are none; waits for the device."""
        if self.indices is None or not self._filled_up:
            return self.indices
        known = self.indices[self.indices < len(self.indices)]
        return known if len(known) else None

    def restart(self) -> None:
        """Begin a new window, as after resampling: the new latents have had no chance yet."""
        self._counts.zero_()
        self._tokens = [0] * (_PARTS + 1)
        self._now, self.indices = 0, None

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        known = self.known()
        indices = self._counts.new_zeros(0) if known is None else known
        tensors = {"counts": self._counts, "indices": indices}
        return tensors, {"tokens": self._tokens, "now": self._now}

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        self._counts.copy_(tensors["counts"])
        indices = tensors["indices"].to(self._counts.device)
        dead_F = torch.zeros_like(self._counts[0], dtype=torch.bool).index_fill_(0, indices, True)
        self.indices = self._listed(dead_F) if self._ranks.total(len(indices)) else None
        self._tokens, self._now = list(numbers["tokens"]), numbers["now"]

    def _turn(self) -> None:
        if self.tokens >= self._window:
            self.indices = self._listed(self._dead())
        self._now = (self._now + 1) % (_PARTS + 1)
        self._counts[self._now].zero_()
        self._tokens[self._now] = 0

    def _listed(self, dead_F: Tensor) -> Tensor | None:
        if self._filled_up:
            F = len(dead_F)
            return torch.arange(F, device=dead_F.device).masked_fill_(~dead_F, F)
        dead = dead_F.nonzero().squeeze(1)
        return dead if self._ranks.total(len(dead)) else None

    def _dead(self) -> Tensor:
        return self._counts.sum(0) <= self._threshold * self.tokens
