"""A run that names its L0 ends there, on tokens it has never seen, whatever it started from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from workers.engine.activations import Activations
from workers.engine.advance import advance
from workers.engine.config import Architecture, Hyperparameters, ModelFacts, Plan, TrainingConfig
from workers.engine.state import State

WIDTH, LATENTS, BATCH, STEPS = 32, 128, 128, 1000


def activations() -> Tensor:
    """Sums of few of many directions, some frequent and most rare, off the origin, with noise."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(4 * WIDTH, WIDTH, generator=generator)
    frequency = torch.logspace(-2.5, -0.7, 4 * WIDTH)
    shape = (BATCH * STEPS + 4096, len(directions))
    amount = torch.rand(shape, generator=generator)
    amount *= torch.rand(shape, generator=generator) < frequency
    mean = 3 * torch.randn(WIDTH, generator=generator)
    return amount @ directions + mean + 0.1 * torch.randn(len(amount), WIDTH, generator=generator)


@pytest.fixture(scope="module")
def x_MD() -> Tensor:
    return activations()


def begun(x_MD: Tensor, architecture: str, **h: Any) -> tuple[State, Plan]:
    config = TrainingConfig.model_construct(
        architecture=Architecture(architecture),
        layer=0,
        hyperparameters=Hyperparameters.below_ranges(
            latent_dim=LATENTS, batch_size=BATCH, num_steps=STEPS, **h
        ),
    )
    plan = Plan.of(config, ModelFacts(d_model=WIDTH, n_layers=2))
    state = State.fresh(plan, torch.device("cpu"), torch.float32)
    state.settle(batch(plan, x_MD[:4096]))
    return state, plan


def batch(plan: Plan, x_BD: Tensor) -> Activations:
    """Where the next layer is wanted: what it adds is small beside what it reads."""
    next_BD = x_BD + 0.2 * x_BD.roll(1, dims=1).relu()
    if plan.architecture.spans:
        x_BD = torch.cat((x_BD, next_BD), 1)
    y_BD = next_BD if plan.has_own_target else x_BD
    return Activations(x_BD, y_BD, np.zeros(len(x_BD), dtype=np.int64))


def l0(state: State, plan: Plan, some_BD: Tensor) -> float:
    x_BD = batch(plan, some_BD).x
    z_BF, _ = state.sae.reconstruct(state.normalizer(x_BD, x_BD).x)
    return float((z_BF > 0).sum(1).float().mean())


def held_out_l0(x_MD: Tensor, architecture: str, **h: Any) -> float:
    state, plan = begun(x_MD, architecture, **h)
    for x_BD in x_MD[: BATCH * STEPS].split(BATCH):
        advance(state, plan, batch(plan, x_BD))
    return l0(state, plan, x_MD[BATCH * STEPS :])


@pytest.mark.parametrize("target", [2, 8, 32])
@pytest.mark.parametrize("architecture", list(Architecture))
def test_l0_ends_within_a_tenth_of_the_target(
    x_MD: Tensor, architecture: str, target: float
) -> None:
    found = held_out_l0(x_MD, architecture, target_l0=target, learning_rate=1e-3)
    assert found == pytest.approx(target, rel=0.1)


@pytest.mark.parametrize(
    ("architecture", "start"),
    [
        ("standard", {"l1_alpha": 1e-4}),
        ("standard", {"l1_alpha": 0.1}),
        ("jumprelu", {"l0_alpha": 1e-6}),
        ("jumprelu", {"l0_alpha": 0.01}),
    ],
)
def test_a_bad_first_weight_does_not_matter(
    x_MD: Tensor, architecture: str, start: dict[str, float]
) -> None:
    found = held_out_l0(x_MD, architecture, target_l0=8, learning_rate=1e-3, **start)
    assert found == pytest.approx(8, rel=0.1)


@pytest.mark.parametrize("architecture", ["standard", "jumprelu"])
def test_it_settles_at_the_default_learning_rate_too(x_MD: Tensor, architecture: str) -> None:
    found = held_out_l0(x_MD, architecture, target_l0=8)
    assert found == pytest.approx(8, rel=0.1)


def test_a_jumprelu_starts_with_twice_the_l0_it_is_to_reach(x_MD: Tensor) -> None:
    state, plan = begun(x_MD, "jumprelu", target_l0=8)
    assert l0(state, plan, x_MD[4096:8192]) == pytest.approx(16, rel=0.1)


def test_a_first_threshold_that_is_given_is_kept(x_MD: Tensor) -> None:
    state, _ = begun(x_MD, "jumprelu", target_l0=8, jumprelu_threshold=0.3)
    assert (state.sae.weights["threshold"] == 0.3).all()
