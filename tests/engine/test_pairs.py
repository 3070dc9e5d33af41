"""The torch operations over active pairs, which devices without kernels use, equal dense ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from workers.engine.sae import pairs
from workers.engine.sae.pairs import Pairs

B, F, D = 9, 23, 5
FLOORS = {"none": 99.0, "few": 1.0, "half": 0.0, "all": -99.0}


def make(floor: float) -> tuple[Pairs, Tensor, Tensor, Tensor, Tensor]:
    """Pairs, their values, the same as a dense matrix, weights [F, D] and a matrix [B, D]."""
    g = torch.Generator().manual_seed(0)
    pre = torch.randn(B, F, generator=g)
    pre[3] = -100 if floor > -99 else pre[3]  # a token at which nothing is active
    found = pairs._above(pre, floor, most=1.0)
    assert found is not None
    dense = pre * (pre > floor)
    return *found, dense, torch.randn(F, D, generator=g), torch.randn(B, D)


@pytest.mark.parametrize("floor", FLOORS.values(), ids=FLOORS)
@pytest.mark.parametrize("rows_at_once", [2, 512])
def test_pairs_and_values_make_the_dense_matrix(
    floor: float, rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "_ROWS_AT_ONCE", rows_at_once)
    found, values, dense, W, _ = make(floor)
    rebuilt = torch.zeros(B, F)
    rebuilt[found.tokens, found.latents] = values
    assert torch.equal(rebuilt, dense)
    assert found.starts.tolist() == [0, *(dense != 0).sum(1).cumsum(0).tolist()]
    torch.testing.assert_close(found.decode(values, W), dense @ W)


@pytest.mark.parametrize("floor", FLOORS.values(), ids=FLOORS)
def test_products_and_sums_by_latent(floor: float) -> None:
    found, values, dense, W, g = make(floor)
    torch.testing.assert_close(found.sample(g, W), (g @ W.T)[found.tokens, found.latents])
    torch.testing.assert_close(found.product(values, g), dense.T @ g)
    torch.testing.assert_close(found.sums(values), dense.sum(0))
    assert found.fired(values).tolist() == (dense != 0).sum(0).tolist()


def test_too_many_pairs_are_not_listed() -> None:
    pre = torch.ones(B, F)
    assert pairs._above(pre, 0.0, most=0.99) is None
    assert pairs._above(pre, 0.0, most=1.0) is not None
