"""Activations of chosen contexts, read from the cache or by forward passes.

Shapes: B tokens in a batch, M tokens in a chunk, D width, T positions of a context.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .config.checks import PASS_ON_GPU
from .forward import Forward
from .order import Groups, Indices, Part
from .shelf import Shelf
from .tokens import TokenizeError, Tokens

# Tokens that one forward pass takes; part of the numerics, so it depends on the device alone.
_FORWARD_TOKENS = {"cpu": 4096, "cuda": PASS_ON_GPU}


class StopRequested(Exception):
    """Raised between two forward passes when the run was asked to stop."""


@dataclass(frozen=True)
class Activations:
    """Raw activations of usable tokens: what the SAE reads, and what it is to reconstruct.

    `y` is `x` itself where the target is the layer that is read. `contexts` says where each token
    came from.
    """

    x: Tensor
    y: Tensor
    contexts: Indices
    seconds: float = 0.0

    def __len__(self) -> int:
        return len(self.x)

    @property
    def tensors(self) -> list[Tensor]:
        """Every tensor once."""
        return [self.x] if self.y is self.x else [self.x, self.y]

    def to(self, device: torch.device) -> Activations:
        """The same on a device."""
        x = self.x.to(device)
        y = x if self.y is self.x else self.y.to(device)
        return replace(self, x=x, y=y)

    def rows(self, index: Indices) -> Activations:
        """The chosen rows in float32."""
        on_device = _handed_over(index, self.x.device)
        x = self.x[on_device].float()
        y = x if self.y is self.x else self.y[on_device].float()
        share = self.seconds * len(index) / len(self)
        return Activations(x, y, self.contexts[index], share)

    def split(self, tokens: int) -> Iterator[Activations]:
        """All rows in order, in pieces of at most so many tokens."""
        for start in range(0, len(self), tokens):
            yield self.rows(np.arange(start, min(start + tokens, len(self))))


class Reader:
    """Activations of parts of groups, from the shelf where they lie there, else by a forward pass.

    Either way they are the same to the last bit. `beside`: those of all sites stand side by side in
    one tensor, which is input and target.
    """

    def __init__(
        self,
        tokens: Tokens,
        groups: Groups,
        forward: Forward,
        device: torch.device,
        shelf: Shelf | None = None,
        beside: bool = False,
    ) -> None:
        self.tokens, self.groups, self.forward = tokens, groups, forward
        self.device, self._shelf, self._beside = device, shelf, beside

    def read(self, parts: Sequence[Part], stop: Callable[[], bool] = bool) -> Activations:
        """Every usable token of the parts, in order. Raises `StopRequested` if asked to.

        Without parts there is nothing, of no width. The `seconds` of what is returned leave out the
        loading of the model.
        """
        if not parts:
            nothing = torch.empty((0, 0), device=self.device)
            return Activations(nothing, nothing, np.zeros(0, np.int64))
        begun, loading = time.perf_counter(), self.forward.loading_seconds
        places = [self._rows(part) for part in parts]
        held = self._gathered(parts, places, stop)
        if self.device.type == "cuda":
            # Once a chunk: the time below is then true. Steps in another stream are not waited for.
            torch.cuda.current_stream(self.device).synchronize()
        contexts = np.concatenate([self.contexts(part) for part in parts])
        seconds = time.perf_counter() - begun - (self.forward.loading_seconds - loading)
        return Activations(held[0], held[-1], contexts, seconds)

    def contexts(self, part: Part) -> Indices:
        """Of every usable token of a part, in order, the context it stands in."""
        return np.repeat(self.groups.read(part), self._rows(part).counts)

    def _gathered(
        self, parts: Sequence[Part], places: list[_Rows], stop: Callable[[], bool]
    ) -> list[Tensor]:
        """A tensor per site, or of all; filled part by part: nothing lies in memory twice."""
        held: list[Tensor] = []
        total, filled = sum(rows.stop - rows.start for rows in places), 0
        for part, rows in zip(parts, places, strict=True):
            if stop():
                raise StopRequested
            group = self._group(part.group, rows.of_group)
            for index, whole in enumerate([torch.cat(group, 1)] if self._beside else group):
                if index == len(held):
                    held.append(whole.new_empty((total, whole.shape[1])))
                taken = whole[rows.start : rows.stop]
                held[index][filled : filled + len(taken)] = taken
            filled += rows.stop - rows.start
        return held

    def _group(self, number: int, n_tokens: int) -> list[Tensor]:
        stored = self._shelf.get(number, n_tokens) if self._shelf else None
        if stored is not None:
            return [tensor.to(self.device) for tensor in stored]
        computed = self.forward.group(number)
        # Passes in halves may have other last bits: other runs must not read those.
        if self._shelf and self.forward.most_contexts is None:
            self._shelf.put(number, computed)
        return computed

    def _rows(self, part: Part) -> _Rows:
        counts = self.tokens.usable(self.groups.whole(part.group)).sum(axis=1)
        ends = np.concatenate([[0], counts.cumsum()])
        start, stop = int(ends[part.start]), int(ends[part.stop])
        return _Rows(start, stop, int(ends[-1]), counts[part.start : part.stop])


def _handed_over(index: Indices, device: torch.device) -> Tensor:
    """On the device; from memory it can read by itself, so that the host does not wait."""
    tensor = torch.from_numpy(index)
    if device.type != "cuda":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True)
class _Rows:
    """Where a part's tokens lie among those of its group; `counts` are those of each context."""

    start: int
    stop: int
    of_group: int
    counts: Indices


def forward_tokens(device: torch.device) -> int:
    """Tokens of one forward pass, if a context is not longer."""
    return _FORWARD_TOKENS.get(device.type, 4096)


def group_shape(tokens: Tokens, buffer_tokens: int, device: torch.device) -> tuple[int, int]:
    """Contexts of a group, and groups of a chunk, whose tokens are held together.

    A group is what one forward pass takes, or a whole chunk where that is less. Raises
    `TokenizeError` where no token is usable.
    """
    m = tokens.manifest
    if m.n_usable < 1:
        raise TokenizeError("The tokenization holds nothing but BOS tokens.")
    of_chunk = max(1, buffer_tokens // (m.context_length - m.bos))
    of_pass = max(1, forward_tokens(device) // m.context_length)
    group = min(of_pass, of_chunk)
    return group, of_chunk // group
