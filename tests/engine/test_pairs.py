"""Products over active pairs equal their dense references."""

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
    found = Pairs.above(pre, floor, most=1.0)
    assert found is not None
    dense = pre * (pre > floor)
    return found, found.gather(pre), dense, torch.randn(F, D, generator=g), torch.randn(B, D)


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
@pytest.mark.parametrize("mkl", [True, False])
def test_sampling_with_and_without_the_library(
    floor: float, mkl: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mkl and not torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        pytest.skip("this torch has no MKL")
    monkeypatch.setattr(pairs, "_has_mkl", lambda: mkl)
    found, _, _, W, g = make(floor)
    torch.testing.assert_close(found.sample(g, W), (g @ W.T)[found.tokens, found.latents])


@pytest.mark.parametrize("floor", FLOORS.values(), ids=FLOORS)
def test_products_and_sums_by_latent(floor: float) -> None:
    found, values, dense, _, g = make(floor)
    torch.testing.assert_close(found.by_latent.product(values, g), dense.T @ g)
    torch.testing.assert_close(found.by_latent.sums(values), dense.sum(0))
    assert found.fired().tolist() == (dense != 0).sum(0).tolist()


def test_a_part_of_the_pairs() -> None:
    found, values, dense, W, _ = make(0.0)
    kept = found.keep(values > 1)
    torch.testing.assert_close(kept.decode(values[values > 1], W), (dense * (dense > 1)) @ W)


def test_too_many_pairs_are_not_listed() -> None:
    pre = torch.ones(B, F)
    assert Pairs.above(pre, 0.0, most=0.99) is None
    assert Pairs.above(pre, 0.0, most=1.0) is not None
