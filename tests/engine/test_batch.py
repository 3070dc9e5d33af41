"""What is kept of a whole batch, and the threshold that takes its place once trained."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.engine.test_gradients import COEFFICIENT, B, F, K, make, only_largest
from workers.engine import micro
from workers.engine.sae import BatchTopK, pairs
from workers.engine.sae.batch import TopOfBatch, smallest
from workers.engine.sae.nested import Nested, doubling
from workers.engine.sae.pairs import Pairs

ROWS, LATENTS = 300, 70


def rebuilt(found: Pairs, values_N: Tensor) -> Tensor:
    z = torch.zeros(len(found.starts) - 1, found.n_latents, dtype=values_N.dtype)
    z[found.tokens, found.latents.long()] = values_N
    return z


@pytest.mark.parametrize("n", [0, 1, 900, 9000, ROWS * LATENTS, 10**6])
@pytest.mark.parametrize("device", ["processor", "any"])
def test_the_largest_of_all_pairs_are_kept(n: int, device: str) -> None:
    pre = torch.randn(ROWS, LATENTS, generator=torch.Generator().manual_seed(0))
    least = min(n, pre.numel())
    find = Pairs.largest if device == "processor" else pairs._largest
    found, values_N = find(pre, n if device == "processor" else least)
    assert torch.equal(rebuilt(found, values_N).relu(), only_largest(pre, least))


def test_fewer_are_kept_where_fewer_are_positive() -> None:
    pre = torch.randn(ROWS, LATENTS, generator=torch.Generator().manual_seed(0)) - 2
    found, values_N = Pairs.largest(pre, 20 * ROWS)
    assert len(values_N) == int((pre > 0).sum())
    assert torch.equal(rebuilt(found, values_N), pre.relu())


def test_rows_unlike_those_that_are_sampled_are_not_missed() -> None:
    """Every fourth row, which is what tells about the others, is far larger."""
    pre = torch.rand(ROWS, LATENTS, generator=torch.Generator().manual_seed(0))
    pre[:: ROWS // pairs._SAMPLE_ROWS] += 50
    found, values_N = Pairs.largest(pre, 60 * ROWS)
    assert len(values_N) == 60 * ROWS
    assert torch.equal(rebuilt(found, values_N), only_largest(pre, 60 * ROWS))


def test_equal_values_fill_up_to_exactly_as_many() -> None:
    pre = torch.ones(ROWS, LATENTS, dtype=torch.bfloat16)
    assert len(Pairs.largest(pre, 1000)[1]) == 1000


def test_the_first_step_sets_the_threshold_and_later_ones_move_it() -> None:
    activation = TopOfBatch(K, 0.0)
    threshold = activation.running["threshold"]
    activation.observe({"smallest": torch.tensor(2.0)})
    assert float(threshold) == 2.0
    activation.observe({"smallest": torch.tensor(0.0)})  # nothing was active
    assert float(threshold) == 2.0
    activation.observe({"smallest": torch.tensor(3.0)})
    assert 2.0 < float(threshold) < 2.2
    assert threshold.dtype == torch.float32


@pytest.mark.parametrize("nested", [False, True])
def test_below_the_smallest_kept_the_trained_latents_are_the_steps(nested: bool) -> None:
    w, x, _ = make()
    activation = Nested(K, 0.0, ends=(7, F)) if nested else TopOfBatch(K, 0.0)
    sae = BatchTopK(w, activation)
    step = sae.step(x, x, torch.tensor(COEFFICIENT), None)
    least = step.seen["smallest"]
    sae.activation.running["threshold"].copy_(least * (1 - 1e-6))
    z, x_hat = sae.reconstruct(x)
    torch.testing.assert_close(step.residual_BO, x_hat - x)
    assert step.fired_F.tolist() == (z > 0).sum(0).tolist()
    assert int((z > 0).sum()) == B * K
    assert float(step.l0) == K
    assert float(step.l1) == pytest.approx(float(z.sum(1).mean()))


def test_micro_batches_tell_the_mean_of_their_smallest() -> None:
    w, x, _ = make()
    sae, zero = BatchTopK(w, TopOfBatch(K, 0.0)), torch.zeros((), dtype=torch.float64)
    found = micro.step(sae, x, x, zero, None, 3).seen["smallest"]
    each = [sae.step(part, part, zero, None).seen["smallest"] for part in x.split(8)]
    torch.testing.assert_close(found, torch.stack(each).mean())


def test_prefixes_double_up_to_all_latents() -> None:
    assert doubling(4608, 5) == (288, 576, 1152, 2304, 4608)
    assert doubling(7, 3) == (1, 3, 7)


def test_a_prefix_with_nothing_active_leaves_the_others_as_they_are() -> None:
    w, x, _ = make()
    w["b_enc"][:7] -= 100
    whole = BatchTopK(w, TopOfBatch(K, 0.0)).step(x, x, torch.tensor(COEFFICIENT), None)
    step = BatchTopK(w, Nested(K, 0.0, ends=(7, F))).step(x, x, torch.tensor(COEFFICIENT), None)
    torch.testing.assert_close(step.residual_BO, whole.residual_BO)
    expected = whole.gradients["W_dec"] / 2  # of the two prefixes one has these latents
    torch.testing.assert_close(step.gradients["W_dec"], expected)
    assert float(step.reconstruction_loss) == pytest.approx(float(whole.loss))


def test_a_batch_with_nothing_active_tells_no_threshold() -> None:
    assert float(smallest(torch.empty(0))) == 0.0
    assert float(smallest(torch.tensor([-1.0, 0.0]))) == 0.0
    assert float(smallest(torch.tensor([-1.0, 0.5, 3.0]))) == 0.5
    w, x, _ = make()
    w["b_enc"] -= 100
    step = BatchTopK(w, TopOfBatch(K, 0.0)).step(x, x, torch.tensor(COEFFICIENT), None)
    assert (float(step.l0), int(step.fired_F.sum()), len(step.fired_F)) == (0.0, 0, F)
