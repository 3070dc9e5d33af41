"""A step that does not fit into memory, repeated in micro-batches that sum to the same step.

Shapes: B tokens in a batch, D input width, O target width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from . import memory
from .failure import TrainingError
from .ranks import ALONE, Ranks
from .sae import Sae, Step, Weights
from .sae.dense import Products

log = logging.getLogger(__name__)
Computed = TypeVar("Computed")

# No micro-batch is cut into halves of fewer tokens: weights and moments are then what is too large.
SMALLEST_TOKENS = 32


class Micro:
    """In how many micro-batches each step is computed: one, until a step does not fit.

    The number only ever doubles, and it is part of the checkpoint: a resumed run adds up the same
    parts from its first step on, and so the same bits. Of several ranks one alone cannot repeat a
    step: there the number stays what was reckoned before the first one.
    """

    def __init__(self, ranks: Ranks = ALONE) -> None:
        self.count, self._ranks = 1, ranks

    def fitting(self, sae: Sae, tokens: int, compute: Callable[[int], Computed]) -> Computed:
        """`compute(count)`, with the count doubled until it fits.

        `compute` changes nothing before it succeeds, so that repeating it is the same step. Raises
        `TrainingError` where even micro-batches of `SMALLEST_TOKENS` do not fit.
        """
        while True:
            try:
                return compute(self.count)
            except memory.ERRORS as error:
                if not memory.exhausted(error) or not self._ranks.alone:
                    raise
                log.warning("A step in %d micro-batches does not fit: %s", self.count, error)
            self._double(tokens)
            # The pre-activations that are kept from step to step are of the larger shape.
            sae.products = Products(sae.products.dtype, sae.ranks)
            memory.release()

    def _double(self, tokens: int) -> None:
        if not doubles(self.count, tokens):
            raise TrainingError(
                f"Memory does not suffice for a step even in {self.count:,} micro-batches of "
                f"{-(-tokens // self.count):,} tokens: the weights, gradients and moments are too "
                "large. Choose a smaller latent_dim, moments_dtype bfloat16, or a larger device."
            )
        self.count *= 2

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {}, {"count": self.count}

    def restore(self, _tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        self.count = numbers["count"]


def doubles(count: int, tokens: int) -> bool:
    """Whether a batch of so many tokens may be cut into twice as many micro-batches."""
    return tokens >= 2 * count * SMALLEST_TOKENS


def step(
    sae: Sae, x_BD: Tensor, y_BO: Tensor, coefficient: Tensor, dead: Tensor | None, count: int
) -> Step:
    """Equal to `sae.step` over the whole batch, at the memory of a micro-batch.

    Every term of the loss, the auxiliary one of TopK too, is a mean over tokens: the whole is the
    sum of the parts, each weighed by its share of the tokens. What selects over a batch selects
    over each micro-batch then, see `sae/batch.py`.
    """
    if count == 1:
        return sae.step(x_BD, y_BO, coefficient, dead)
    whole = _Sum(len(x_BD))
    size = -(-len(x_BD) // count)
    for x, y in zip(torch.split(x_BD, size), torch.split(y_BO, size), strict=True):
        whole.add(sae.step(x, y, coefficient, dead), len(x))
    return whole.step()


class _Sum:
    """Adds up micro-batches; holds the gradients of two at a time at most."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._gradients: Weights = {}
        self._means: dict[str, Tensor] = {}
        self._seen: dict[str, Tensor] = {}
        self._residuals: list[Tensor] = []
        self._skips: list[Tensor] = []
        self._fired_F: Tensor | None = None

    def add(self, part: Step, tokens: int) -> None:
        share = tokens / self._tokens
        for name, gradient in part.gradients.items():
            if name in self._gradients:
                self._gradients[name].add_(gradient, alpha=share)
            else:
                self._gradients[name] = gradient.mul_(share)
        for name in ("loss", "reconstruction_loss", "l0", "l1", "auxiliary"):
            _add(self._means, name, getattr(part, name) * share)
        for name, value in part.seen.items():
            _add(self._seen, name, value * share)
        self._residuals.append(part.residual_BO)
        if part.skip_BO is not None:
            self._skips.append(part.skip_BO)
        fired_F = part.fired_F
        self._fired_F = fired_F if self._fired_F is None else self._fired_F + fired_F

    def step(self) -> Step:
        assert self._fired_F is not None
        return Step(
            gradients=self._gradients,
            residual_BO=torch.cat(self._residuals),
            fired_F=self._fired_F,
            seen=self._seen,
            skip_BO=torch.cat(self._skips) if self._skips else None,
            **self._means,
        )


def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
    sums[name] = sums[name] + value if name in sums else value
