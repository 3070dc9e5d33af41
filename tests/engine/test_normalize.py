"""Scales in, scales out."""

from __future__ import annotations

import pytest
import torch

from workers.engine.config.hyperparameters import Normalization
from workers.engine.normalize import Normalizer

X = torch.randn(500, 16, generator=torch.Generator().manual_seed(0)) * 7 + 3
Y = X * 0.25 - torch.randn(500, 16, generator=torch.Generator().manual_seed(1))
METHODS: tuple[Normalization, ...] = ("none", "constant_norm", "layer_norm")


def test_constant_norm_brings_the_mean_norm_to_the_root_of_the_width() -> None:
    normalized = Normalizer.estimate("constant_norm", False, X, Y)(X, Y)
    assert float(normalized.x.norm(dim=1).mean()) == pytest.approx(16**0.5, rel=1e-5)
    assert float(normalized.y.norm(dim=1).mean()) == pytest.approx(16**0.5, rel=1e-5)


def test_layer_norm_centres_and_scales_every_token() -> None:
    normalized = Normalizer.estimate("layer_norm", False, X, Y)(X, Y)
    for part in (normalized.x, normalized.y):
        torch.testing.assert_close(part.mean(1), torch.zeros(500), rtol=0, atol=1e-5)
        torch.testing.assert_close(part.std(1), torch.ones(500), rtol=0, atol=1e-4)


def test_none_changes_nothing() -> None:
    normalized = Normalizer.estimate("none", False, X, Y)(X, Y)
    assert torch.equal(normalized.x, X)
    assert torch.equal(normalized.y, Y)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shared", [True, False])
def test_a_perfect_reconstruction_is_restored_to_the_raw_target(
    method: Normalization, shared: bool
) -> None:
    normalized = Normalizer.estimate(method, shared, X, Y)(X, Y)
    torch.testing.assert_close(normalized.restore(normalized.y), Y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_with_a_shared_scale_the_identity_stays_the_identity(method: Normalization) -> None:
    normalized = Normalizer.estimate(method, True, X, Y)(X, Y)
    torch.testing.assert_close(normalized.restore(normalized.x), X, rtol=1e-4, atol=1e-4)


def test_a_transcoders_target_has_its_own_constant() -> None:
    own = Normalizer.estimate("constant_norm", False, X, Y)
    shared = Normalizer.estimate("constant_norm", True, X, Y)
    assert own.scale_out != pytest.approx(own.scale_in, rel=0.1)
    assert shared.scale_out == shared.scale_in


def test_activations_that_are_all_zero_do_not_divide_by_zero() -> None:
    zeros = torch.zeros(4, 8)
    assert Normalizer.estimate("constant_norm", False, zeros, zeros).scale_in == 1.0
