"""A sparse step saves what it promises: memory, and time beside a dense one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from workers.engine.sae import Standard, Weights
from workers.engine.sae.activation import Activation
from workers.engine.sae.annealed import Annealed
from workers.engine.sae.batch import TopOfBatch
from workers.engine.sae.dense import Products
from workers.engine.sae.gate import Gate
from workers.engine.sae.jump import Jump
from workers.engine.sae.nested import Nested
from workers.engine.sae.relu import Relu
from workers.engine.sae.topk import TopK

COEFFICIENT = torch.tensor(1e-3)


def make(B: int, D: int, F: int, share: float) -> tuple[Weights, Tensor]:
    """Weights at which so large a share of all pairs is active."""
    g = torch.Generator().manual_seed(5)
    x = torch.randn(B, D, generator=g)
    W = torch.nn.functional.normalize(torch.randn(F, D, generator=g), dim=1)
    level = torch.quantile((x[:64] @ W.T).flatten(), 1 - share)
    w = {"W_enc": W, "b_enc": torch.zeros(F) - level, "W_dec": W.clone(), "b_dec": torch.zeros(D)}
    w |= {"b_mag": w["b_enc"].clone(), "r_mag": torch.zeros(F)}
    return w | {"threshold": torch.full((F,), 0.1)}, x


class Allocations(TorchDispatchMode):
    """Remembers the storages of at least so many elements that operations returned."""

    def __init__(self, elements: int) -> None:
        super().__init__()
        self._elements = elements
        self.found: dict[int, Tensor] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.layout == torch.strided:
                storage = leaf.untyped_storage()
                if storage.nbytes() >= self._elements * leaf.element_size():
                    self.found.setdefault(storage.data_ptr(), leaf)
        return out


@pytest.mark.parametrize(
    "activation",
    [
        Relu(),
        Jump(0.1),
        TopK(8, 0.0),
        TopOfBatch(8, 0.0),
        Nested(8, 0.0, ends=(64, 512)),
        Gate(),
        Annealed(0.2, 10),
    ],
    ids=lambda activation: type(activation).__name__,
)
def test_nothing_but_the_pre_activations_is_as_large_as_all_pairs(activation: Activation) -> None:
    w, x = make(B=4096, D=32, F=512, share=0.02)
    with Allocations(4096 * 512) as allocations:
        Standard(w, activation).step(x, x, COEFFICIENT, None)
    assert [tuple(a.shape) for a in allocations.found.values()] == [(4096, 512)]


@pytest.mark.parametrize(
    "activation",
    [Relu(), Jump(0.1), Gate(), Annealed(0.2, 10)],
    ids=lambda activation: type(activation).__name__,
)
def test_a_sparse_step_takes_less_time_than_a_dense_one(
    activation: Activation, monkeypatch: pytest.MonkeyPatch
) -> None:
    w, x = make(B=2048, D=256, F=2048, share=0.01)
    seconds: dict[float, list[float]] = {1.0: [], -1.0: []}
    for most in [*seconds] * 6:
        monkeypatch.setattr(Products, "worth_sparse", lambda *_, most=most: most)
        begun = time.perf_counter()
        Standard(w, activation).step(x, x, COEFFICIENT, None)
        seconds[most].append(time.perf_counter() - begun)
    assert statistics.median(seconds[1.0]) < statistics.median(seconds[-1.0])
