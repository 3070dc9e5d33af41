"""Compiled kernels equal the torch operations they stand in for, on any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from workers.engine.sae import cpu
from workers.engine.sae.pairs import Pairs

B, F, D = 37, 83, 21
FLOORS = {"none": 99.0, "few": 1.5, "half": 0.0, "all": -99.0}
DTYPES = (torch.float32, torch.float64, torch.bfloat16)


@pytest.fixture(params=[1, 3], ids=["one thread", "three threads"], autouse=True)
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def numbers(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def as_matrix(starts: Tensor, latents: Tensor, values: Tensor) -> Tensor:
    """What a reader of the pairs would write down as a dense matrix."""
    matrix = torch.zeros(len(starts) - 1, F, dtype=values.dtype)
    matrix[Pairs(starts, latents, F).tokens, latents.long()] = values
    return matrix


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [0, 1, 7, F - 1, F])
def test_the_largest_of_each_row(k: int, dtype: torch.dtype) -> None:
    pre = numbers(B, F, dtype=dtype)
    latents, values = cpu.top(pre, k)
    expected = pre.topk(k, dim=1).values.to(values.dtype)
    assert torch.equal(values.sort(descending=True).values, expected)
    assert torch.equal(pre.gather(1, latents.long()).to(values.dtype), values)
    assert all(len(set(row)) == k for row in latents.tolist())


@pytest.mark.parametrize("row", ["all alike", "rising", "falling", "all but one alike"])
def test_rows_that_are_hard_to_part(row: str) -> None:
    pre = torch.zeros(2, F)
    if row in ("rising", "falling"):
        pre += torch.arange(F) * (1 if row == "rising" else -1)
    if row == "all but one alike":
        pre[:, 40] = 1
    _, values = cpu.top(pre, 6)
    assert torch.equal(values.sort(descending=True).values, pre.topk(6, dim=1).values)


def test_what_is_not_a_number_is_not_passed_over() -> None:
    pre = numbers(2, F)
    pre[1, 50] = torch.nan
    assert not cpu.top(pre, 5)[1][1].isfinite().all()
    found = cpu.above(pre, 0.0, most=1.0)
    assert found is not None
    assert found[2].isnan().sum() == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("floor", FLOORS.values(), ids=FLOORS)
def test_all_above_a_floor(floor: float, dtype: torch.dtype) -> None:
    pre = numbers(B, F, dtype=dtype)
    found = cpu.above(pre, floor, most=1.0)
    assert found is not None
    assert torch.equal(as_matrix(*found), (pre * (pre > floor)).to(found[2].dtype))


def test_all_above_a_floor_of_their_own() -> None:
    pre, floor = numbers(B, F), numbers(F, seed=1)
    found = cpu.above(pre, floor, most=1.0)
    assert found is not None
    assert torch.equal(as_matrix(*found), pre * (pre > floor))


def test_too_many_pairs_are_not_listed() -> None:
    pre = torch.ones(B, F)
    assert cpu.above(pre, 0.0, most=0.99) is None
    assert cpu.above(pre, 0.0, most=1.0) is not None


def some_pairs(floor: float) -> tuple[Pairs, Tensor]:
    """Pairs of which every third stands at zero, as those within reach of a threshold do."""
    found = cpu.above(numbers(B, F), floor, most=1.0)
    assert found is not None
    starts, latents, z = found
    z[::3] = 0
    return Pairs(starts, latents.long(), F), z


@pytest.mark.parametrize("floor", FLOORS.values(), ids=FLOORS)
def test_the_residual_and_its_products_at_the_pairs(floor: float) -> None:
    pairs, z = some_pairs(floor)
    W, b, t = numbers(F, D, seed=1), numbers(D, seed=2), numbers(B, D, seed=3)
    residual, sampled = cpu.reconstruct(pairs.starts, pairs.latents.int(), z, W, b, t)
    torch.testing.assert_close(residual, pairs.decode(z, W) + b - t)
    torch.testing.assert_close(sampled, pairs.sample(residual, W))


@pytest.mark.parametrize("floor", FLOORS.values(), ids=FLOORS)
def test_gradients_by_latent(floor: float) -> None:
    pairs, z = some_pairs(floor)
    dpre, x, g = numbers(len(z), seed=1), numbers(B, D, seed=2), numbers(B, D + 2, seed=3)
    found = cpu.gradients(pairs.starts, pairs.latents.int(), F, z, dpre, x, g)
    expected = pairs.product(dpre, x), pairs.sums(dpre), pairs.product(z, g), pairs.fired(z)
    for ours, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, reference)


def test_gradients_at_right_angles_to_unit_rows() -> None:
    W, g = numbers(F, D), numbers(F, D, seed=1)
    W[5] = 0  # a row without a direction stays as it is
    expected = W / W.norm(dim=1, keepdim=True).clamp_min(1e-12)
    cpu.normalize(W)
    torch.testing.assert_close(W, expected)
    expected = g - (g * W).sum(1, keepdim=True) * W
    cpu.remove_parallel(g, W)
    torch.testing.assert_close(g, expected)


def test_sums_over_tokens_are_exact_in_double_precision() -> None:
    m = numbers(1000, D) + 1e4
    torch.testing.assert_close(cpu.sums(m), m.double().sum(0), rtol=1e-14, atol=0)


CALLS: dict[str, Callable[[], Any]] = {
    "top": lambda: cpu.top(numbers(B, F), 9),
    "above": lambda: cpu.above(numbers(B, F), 0.0, 1.0),
    "reconstruct": lambda: cpu.reconstruct(
        (p := some_pairs(0.0))[0].starts,
        p[0].latents.int(),
        p[1],
        numbers(F, D),
        numbers(D),
        numbers(B, D),
    ),
    "gradients": lambda: cpu.gradients(
        (p := some_pairs(0.0))[0].starts,
        p[0].latents.int(),
        F,
        p[1],
        p[1],
        numbers(B, D),
        numbers(B, D),
    ),
    "sums": lambda: (cpu.sums(numbers(B, D)),),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_number_of_threads_changes_no_bit(call: Callable[[], Any]) -> None:
    here = call()
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        for one, other in zip(here, call(), strict=True):
            assert torch.equal(one, other)
