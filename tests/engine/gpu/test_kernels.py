"""Every kernel equals the reference that stands beside it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from workers.engine.sae.gpu import (
    by_latent,
    decode,
    dense,
    directions,
    encode,
    sample,
    select,
    tiles,
)
from workers.engine.sae.gpu.compact import Pairs, compact
from workers.engine.sae.gpu.rule import Rule

from .conftest import needs_bfloat16_products

B, D, O, F = 18, 11, 9, 37  # noqa: E741 (the width of the target, as in the engine)
BANDWIDTH = 0.5
KINDS = ["relu", "jump", "top"]
close = torch.testing.assert_close


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make_rule(kind: str, device: torch.device) -> Rule:
    """TopK's cut is somewhere, as if it had been found already."""
    if kind == "relu":
        return Rule.relu(device)
    floor = numbers(F, seed=1).abs().to(device) / 2
    if kind == "jump":
        return Rule.jump(floor, BANDWIDTH)
    last = torch.full((B,), 20, dtype=torch.int32, device=device)
    return Rule.top(floor, torch.full((B,), 0.75, device=device), last)


def pre_activations(device: torch.device) -> Tensor:
    """Some exactly at a cut; one token and one latent without, one of each with all active."""
    pre = ((numbers(B, F) - 0.5) * 8).round() / 8
    pre[3], pre[:, 5], pre[7], pre[:, 11] = -9.0, -9.0, 2.0, 2.5
    return pre.to(device)


def listed(kind: str, device: torch.device) -> tuple[Tensor, Rule, Pairs]:
    pre, rule = pre_activations(device), make_rule(kind, device)
    return pre, rule, compact(pre, encode.tally(pre, rule), rule, room=B * F)


def same_tally(found: encode.Tally, expected: encode.Tally) -> None:
    for name in ("by_token", "by_latent", "fired"):
        assert getattr(found, name).tolist() == getattr(expected, name).tolist(), name
    close(found.l1, expected.l1)


@pytest.mark.parametrize("kind", ["relu", "jump"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_encoder_writes_pre_activations_and_counts_them(
    kind: str, dtype: torch.dtype, device: torch.device
) -> None:
    if dtype == torch.bfloat16:
        needs_bfloat16_products(device)
    w = {"W_enc": numbers(F, D, seed=2).to(device), "b_enc": numbers(F, seed=3).to(device)}
    x = numbers(B, D, seed=4).to(device, dtype)
    pre, tally = encode.encode(w, x, make_rule(kind, device))
    assert pre.dtype == dtype
    within = 2e-2 if dtype == torch.bfloat16 else 1e-5
    close(pre, encode.encode_reference(w, x), rtol=within, atol=within)
    same_tally(tally, encode.Tally.reference(pre, make_rule(kind, device)))


@pytest.mark.parametrize("kind", KINDS)
def test_counting_pre_activations_that_are_there(kind: str, device: torch.device) -> None:
    pre, rule = pre_activations(device), make_rule(kind, device)
    same_tally(encode.tally(pre, rule), encode.Tally.reference(pre, rule))


@pytest.mark.parametrize(
    ("k", "dtype"),
    [(0, torch.float32), (6, torch.float32), (1, torch.bfloat16), (F, torch.bfloat16)],
)
def test_selecting_the_largest(
    k: int, dtype: torch.dtype, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "SELECTED", 32)  # a token takes several blocks
    pre = pre_activations(device).to(dtype)
    floor = make_rule("jump", device).floor.clone()
    floor[30:] = torch.inf
    rule = select.select(pre, floor, torch.tensor([k], dtype=torch.int32, device=device))
    found = pre.float() * rule.active(pre)
    expected = select.select_reference(pre, floor, k)
    assert torch.equal(found.sort(1).values, expected.sort(1).values)
    assert ((found > 0).sum(1) <= k).all()


def test_of_equal_ones_the_first_latents_are_selected(device: torch.device) -> None:
    pre = torch.ones(2, F, device=device)
    pre[1, 20] = 2.0
    k = torch.tensor([4], dtype=torch.int32, device=device)
    rule = select.select(pre, torch.zeros(F, device=device), k)
    assert [row.nonzero().flatten().tolist() for row in rule.active(pre)] == [
        [0, 1, 2, 3],
        [0, 1, 2, 20],
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_the_lists_hold_every_pair_in_order(kind: str, device: torch.device) -> None:
    pre, rule, pairs = listed(kind, device)
    reached, active = rule.reached(pre), rule.active(pre)
    assert pairs.overflow.item() == 0
    assert torch.equal(pairs.dense(pairs.pre), pre * reached)
    assert torch.equal(pairs.dense(pairs.z), pre * active)
    n = int(reached.sum())
    latents, tokens = reached.T.nonzero().unbind(1)
    assert pairs.tokens[:n].tolist() == tokens.tolist()
    assert pairs.latents[pairs.places[:n].long()].tolist() == latents.tolist()
    starts = pairs.by_latent[:: pairs.per_latent].tolist()
    assert starts == [0, *reached.sum(0).cumsum(0).tolist()]


@pytest.mark.parametrize("missing", [0, 1])
def test_pairs_that_do_not_fit_are_not_listed(missing: int, device: torch.device) -> None:
    pre, rule = pre_activations(device), Rule.relu(device)
    tally, n = encode.tally(pre, rule), int((pre > 0).sum())
    pairs = compact(pre, tally, rule, room=n - missing)
    assert pairs.overflow.item() == missing
    if missing:
        untouched = torch.full((B, O), 7.0, device=device)
        W, b, t = numbers(F, O).to(device), numbers(O).to(device), numbers(B, O).to(device)
        decode.decode(pairs, W, b, t, untouched)
        assert (untouched == 7).all()


@pytest.mark.parametrize("kind", KINDS)
def test_products_over_listed_pairs(
    kind: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "WIDTH", 8)  # a row takes several blocks, and several rounds of
    monkeypatch.setattr(tiles, "PAIRS", 8)  # pairs
    pre, rule, pairs = listed(kind, device)
    W, g = numbers(F, O, seed=5).to(device), numbers(B, O, seed=6).to(device)
    b, t = numbers(O, seed=7).to(device), numbers(B, O, seed=8).to(device)
    penalty = torch.tensor(0.3, device=device)
    residual = torch.empty_like(t)
    decode.decode(pairs, W, b, t, residual)
    close(residual, decode.decode_reference(pairs, W, b, t))
    dpre, jump = sample.sample(pairs, rule, g, W, penalty)
    expected, crossing = sample.sample_reference(pairs, rule, g, W, penalty, pre)
    close(pairs.dense(dpre), expected)
    if rule.jumps:
        close(pairs.dense(jump), crossing)
    product = torch.empty_like(W)
    by_latent.product(pairs, dpre, g, product)
    close(product, by_latent.product_reference(pairs, dpre, g))
    sums = torch.empty(F, device=device)
    by_latent.sums(pairs, dpre, sums)
    close(sums, by_latent.sums_reference(pairs, dpre))


@pytest.mark.parametrize("kind", KINDS)
def test_products_over_all_pairs(kind: str, device: torch.device) -> None:
    pre, rule = pre_activations(device), make_rule(kind, device)
    W, g = numbers(F, O, seed=5).to(device), numbers(B, O, seed=6).to(device)
    b, t = numbers(O, seed=7).to(device), numbers(B, O, seed=8).to(device)
    x, penalty = numbers(B, D, seed=9).to(device), torch.tensor(0.3, device=device)
    wanted = torch.ones((), dtype=torch.int32, device=device)
    residual = torch.empty_like(t)
    dense.decode(wanted, pre, rule, W, b, t, residual)
    close(residual, dense.decode_reference(pre, rule, W, b, t))
    gradient = torch.ones_like(W)
    dense.decoder_gradient(wanted, pre, rule, g, gradient, add=True)
    close(gradient, 1 + dense.decoder_gradient_reference(pre, rule, g))
    expected, crossing = dense.sample_reference(pre, rule, g, W, penalty)
    sums, jumps = dense.sample(wanted, pre, rule, g, W, penalty)
    close(pre, expected)  # written over
    close(sums, expected.sum(0))
    if rule.jumps:
        close(jumps, crossing.sum(0))
    gradient = torch.empty(F, D, device=device)
    dense.encoder_gradient(wanted, pre, rule, x, gradient)
    close(gradient, dense.encoder_gradient_reference(pre, x))


def unwanted(run: Callable[[Tensor, Tensor], object], device: torch.device) -> bool:
    out = torch.full((B, O), 7.0, device=device)
    run(torch.zeros((), dtype=torch.int32, device=device), out)
    return bool((out == 7).all())


def test_products_over_all_pairs_do_nothing_where_they_are_not_wanted(
    device: torch.device,
) -> None:
    pre, rule = pre_activations(device), Rule.relu(device)
    W, b, t = numbers(F, O).to(device), numbers(O).to(device), numbers(B, O).to(device)
    before = pre.clone()
    assert unwanted(lambda no, out: dense.decode(no, pre, rule, W, b, t, out), device)
    dense.sample(torch.zeros((), dtype=torch.int32, device=device), pre, rule, t, W, t.sum())
    assert torch.equal(pre, before)


def test_what_only_lengthens_a_row_is_taken_out(device: torch.device) -> None:
    g, W = numbers(F, O, seed=5).to(device), numbers(F, O, seed=6).to(device)
    expected = directions.remove_parallel_reference(g, W)
    directions.remove_parallel(g, W)
    close(g, expected)


def test_rows_get_unit_length(device: torch.device) -> None:
    W = numbers(F, O, seed=7).to(device)
    W[4] = 0
    expected = directions.normalize_reference(W)
    directions.normalize(W)
    close(W, expected)
