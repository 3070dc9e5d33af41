"""The penalty of a P-annealed SAE: its exponent over the run, and its size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.engine.test_gradients import COEFFICIENT, make, relu_loss
from workers.engine import micro
from workers.engine.sae import PAnnealed, Step
from workers.engine.sae.annealed import Annealed, power, slope

STEPS = 6


def begun(final_p: float = 0.2) -> tuple[PAnnealed, Tensor]:
    w, x, _ = make()
    return PAnnealed(w, Annealed(final_p, STEPS)), x


def taken(sae: PAnnealed, x: Tensor) -> Step:
    """A step that leaves the weights as they are."""
    step = sae.step(x, x, torch.tensor(COEFFICIENT, dtype=torch.float64), None)
    sae.observe(step)
    return step


def test_p_falls_from_one_in_the_first_step_to_the_final_one_in_the_last() -> None:
    sae, x = begun()
    found = []
    for _ in range(STEPS):
        assert isinstance(sae.activation, Annealed)
        found.append(float(sae.activation.exponent(1)))
        taken(sae, x)
    assert found == pytest.approx([1.0, 0.84, 0.68, 0.52, 0.36, 0.2])
    assert float(sae.activation.exponent(1)) == pytest.approx(0.2)  # it stays there


def test_the_first_step_is_a_standard_one() -> None:
    sae, x = begun()
    expected = relu_loss(sae.weights, x, x)
    torch.testing.assert_close(taken(sae, x).loss, expected)


def test_while_the_latents_stay_the_penalty_keeps_its_size() -> None:
    sae, x = begun()
    penalties = []
    for _ in range(STEPS):
        step = taken(sae, x)
        penalties.append(float(step.loss - step.reconstruction_loss))
    assert penalties == pytest.approx([penalties[0]] * STEPS)
    assert float(sae.activation.running["factor"]) != pytest.approx(1.0)


def test_a_final_p_of_one_is_l1_all_along() -> None:
    sae, x = begun(final_p=1.0)
    losses = [taken(sae, x).loss for _ in range(STEPS)]
    torch.testing.assert_close(torch.stack(losses), losses[0].expand(STEPS))
    assert float(sae.activation.running["factor"]) == pytest.approx(1.0)


def test_a_step_with_nothing_active_leaves_the_factor() -> None:
    sae, x = begun()
    sae.weights["b_enc"] -= 100
    taken(sae, x)
    assert float(sae.activation.running["factor"]) == 1.0
    assert int(sae.activation.running["steps"]) == 1


def test_micro_batches_give_the_factor_of_the_whole_batch() -> None:
    (whole, x), (parts, _) = begun(), begun()
    coefficient = torch.tensor(COEFFICIENT, dtype=torch.float64)
    whole.observe(whole.step(x, x, coefficient, None))
    parts.observe(micro.step(parts, x, x, coefficient, None, 5))
    found = parts.activation.running["factor"]
    torch.testing.assert_close(found, whole.activation.running["factor"])


def test_the_slope_is_the_powers_and_finite_at_zero() -> None:
    z = torch.tensor([0.0, 1e-9, 0.01, 1.0, 50.0], dtype=torch.float64, requires_grad=True)
    p = torch.tensor(0.2, dtype=torch.float64)
    (expected,) = torch.autograd.grad(((z + 1e-3) ** p).sum(), z)
    torch.testing.assert_close(slope(z.detach(), p), expected)
    assert float(slope(z.detach(), p).max()) < 60
    assert float(power(z.detach(), p)[0]) == pytest.approx(0.0, abs=1e-15)
