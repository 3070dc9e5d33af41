"""Products over active pairs equal their dense references."""

from __future__ import annotations

import pytest
import torch

from workers.engine.sae import pairs

B, K, F, D = 7, 3, 20, 5


def make() -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(0)
    values, indices = torch.randn(B, F, generator=g).topk(K, dim=1)
    dense = torch.zeros(B, F).scatter(1, indices, values)
    return indices, values, dense, torch.randn(F, D, generator=g), torch.randn(B, D, generator=g)


def test_decode() -> None:
    indices, values, dense, W, _ = make()
    torch.testing.assert_close(pairs.decode(indices, values, W), dense @ W)


@pytest.mark.parametrize("mkl", [True, False])
def test_at_pairs_with_and_without_the_library(mkl: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if mkl and not torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        pytest.skip("this torch has no MKL")
    monkeypatch.setattr(pairs, "_has_mkl", lambda: mkl)
    indices, _, _, W, g = make()
    torch.testing.assert_close(pairs.at_pairs(indices, g, W), (g @ W.T).gather(1, indices))


def test_products_and_sums_by_latent() -> None:
    indices, values, dense, _, g = make()
    by_latent = pairs.ByLatent.of(indices, F)
    torch.testing.assert_close(by_latent.product(values, g), dense.T @ g)
    torch.testing.assert_close(by_latent.sums(values), dense.sum(0))
