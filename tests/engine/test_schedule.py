"""Learning rate and penalty from step to step."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from workers.engine.config import Hyperparameters, ModelFacts, Plan, TrainingConfig
from workers.engine.schedule import Penalty, learning_rate

CPU = torch.device("cpu")


def make(**h: Any) -> Plan:
    given = {"num_steps": 1000, "learning_rate": 1e-3, **h}
    config = TrainingConfig(
        architecture="standard", layer=0, hyperparameters=Hyperparameters(**given)
    )
    return Plan.of(config, ModelFacts(d_model=16, n_layers=2))


def test_the_rate_warms_up_stays_and_decays() -> None:
    plan = make(lr_warmup_steps=20, lr_decay_fraction=0.2)
    rates = [learning_rate(plan, step) for step in range(1, 1001)]
    assert rates[0] == pytest.approx(1e-3 / 20)
    assert rates[19:801] == [pytest.approx(1e-3)] * 782
    assert rates[-1] == pytest.approx(1e-3 / 200)
    assert min(rates) > 0


def test_without_warmup_and_decay_the_rate_is_constant() -> None:
    plan = make(lr_warmup_steps=0, lr_decay_fraction=0.0)
    assert {learning_rate(plan, step) for step in (1, 500, 1000)} == {1e-3}


def test_the_penalty_warms_up_from_zero_to_its_weight() -> None:
    penalty = Penalty(make(l1_alpha=0.01, sparsity_warmup_steps=100), "l1", CPU)
    assert float(penalty.coefficient(1)) == pytest.approx(0.0001)
    assert float(penalty.coefficient(100)) == pytest.approx(0.01)
    assert float(penalty.coefficient(900)) == pytest.approx(0.01)


def told(penalty: Penalty, steps: int, l0: float, share: float = 0.5) -> float:
    """The weight after so many steps of this L0, the penalty being this share of the rest."""
    for step in range(1, steps + 1):
        penalty.observe(step, torch.tensor(l0), torch.tensor(share))
    weight = penalty.read(steps + 1)
    assert weight is not None
    return weight


@pytest.mark.parametrize(("l0", "grows"), [(100.0, True), (10.0, False)])
def test_the_controller_raises_the_weight_when_too_many_fire(l0: float, grows: bool) -> None:
    penalty = Penalty(make(target_l0=30, sparsity_warmup_steps=5), "l1", CPU)
    assert (told(penalty, 50, l0) > 0.001) is grows


def test_at_the_target_the_weight_rests() -> None:
    penalty = Penalty(make(target_l0=30, sparsity_warmup_steps=0), "l1", CPU)
    assert told(penalty, 50, 30.0) == pytest.approx(0.001)


def test_l0_that_falls_fast_is_not_pushed_on() -> None:
    falling = Penalty(make(target_l0=30, sparsity_warmup_steps=0), "l1", CPU)
    resting = Penalty(make(target_l0=30, sparsity_warmup_steps=0), "l1", CPU)
    for step in range(1, 31):
        l0 = 45 * 0.98**step
        falling.observe(step, torch.tensor(l0), torch.tensor(0.5))
    assert told(resting, 30, l0) > falling.read(31)  # type: ignore[operator]


def test_silence_does_not_break_the_controller() -> None:
    penalty = Penalty(make(target_l0=30, sparsity_warmup_steps=0), "l1", CPU)
    assert 0 < told(penalty, 100, 0.0) < 0.001


def test_a_weight_without_effect_is_not_lowered_any_more() -> None:
    penalty = Penalty(make(target_l0=30, sparsity_warmup_steps=0), "l1", CPU)
    before = told(penalty, 100, 10.0)
    for _ in range(100):
        penalty.observe(100, torch.tensor(10.0), torch.tensor(0.001))
    assert penalty.read(100) >= before  # type: ignore[operator]


def test_a_weight_that_is_everything_is_not_raised_any_more() -> None:
    penalty = Penalty(make(target_l0=30, sparsity_warmup_steps=0), "l1", CPU)
    before = told(penalty, 100, 90.0)
    for _ in range(100):
        penalty.observe(100, torch.tensor(90.0), torch.tensor(1000.0))
    assert penalty.read(100) <= before  # type: ignore[operator]


@pytest.mark.parametrize("share", [0.0, 0.001])
def test_a_weight_under_which_latents_died_is_not_raised(share: float) -> None:
    penalty = Penalty(make(target_l0=30, sparsity_warmup_steps=0), "l1", CPU)
    assert told(penalty, 100, 0.04, share) == pytest.approx(0.001)


@pytest.mark.parametrize(("l0", "share", "grows"), [(90.0, 0.001, True), (10.0, 1000.0, False)])
def test_a_weight_far_outside_comes_back_fast(l0: float, share: float, grows: bool) -> None:
    penalty = Penalty(make(target_l0=30, sparsity_warmup_steps=0), "l1", CPU)
    change = told(penalty, 60, l0, share) / 0.001
    assert change > 30 if grows else change < 1 / 30


def test_topk_has_no_penalty() -> None:
    assert Penalty(make(top_k_sparsity=1.0), None, CPU).read(1) is None
