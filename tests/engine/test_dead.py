"""Counting dead latents, and starting them anew."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workers.engine.activations import Activations
from workers.engine.advance import advance
from workers.engine.config import Hyperparameters, ModelFacts, Plan, TrainingConfig
from workers.engine.dead import DeadLatents
from workers.engine.state import State

CPU = torch.device("cpu")
BATCH, WIDTH, LATENTS = 64, 8, 24


def fired(*latents: int) -> torch.Tensor:
    return torch.zeros(4, dtype=torch.int64).index_fill_(0, torch.tensor(latents), 1)


def test_a_latent_silent_for_the_whole_window_is_dead() -> None:
    dead = DeadLatents(4, window=100, threshold=0.0, device=CPU)
    for _ in range(9):
        dead.add(fired(0, 2), 10)
    assert dead.indices is None  # the window is not full: nobody is treated as dead
    assert (dead.count(), dead.tokens) == (2, 90)
    dead.add(fired(0, 2), 10)
    assert dead.indices is not None
    assert dead.indices.tolist() == [1, 3]


def test_firing_before_the_window_does_not_count() -> None:
    dead = DeadLatents(4, window=100, threshold=0.0, device=CPU)
    dead.add(fired(0, 1, 2, 3), 10)
    for _ in range(11):
        dead.add(fired(0), 10)
    assert dead.indices is not None
    assert dead.indices.tolist() == [1, 2, 3]


def test_the_threshold_is_a_frequency() -> None:
    dead = DeadLatents(4, window=1000, threshold=1e-2, device=CPU)
    dead.add(torch.tensor([0, 10, 11, 500]), 1000)
    assert dead.indices is not None
    assert dead.indices.tolist() == [0, 1]


def test_after_a_restart_a_whole_window_must_pass() -> None:
    dead = DeadLatents(4, window=20, threshold=0.0, device=CPU)
    dead.add(fired(0), 20)
    assert dead.indices is not None
    dead.restart()
    dead.add(fired(0), 10)
    assert dead.indices is None


@pytest.fixture(params=["standard", "gated"])
def plan(request: pytest.FixtureRequest) -> Plan:
    h = Hyperparameters.below_ranges(
        latent_dim=LATENTS,
        batch_size=BATCH,
        num_steps=100,
        learning_rate=1e-3,
        resample_steps=5,
        dead_window_tokens=3 * BATCH,
    )
    config = TrainingConfig(architecture=request.param, layer=0)
    config = config.model_copy(update={"hyperparameters": h})
    return Plan.of(config, ModelFacts(d_model=WIDTH, n_layers=1))


def batch() -> Activations:
    x = torch.randn(BATCH, WIDTH, generator=torch.Generator().manual_seed(2))
    return Activations(x, x, np.arange(BATCH))


def test_resampling_restarts_dead_latents_and_their_moments_only(plan: Plan) -> None:
    state = State.fresh(plan, CPU)
    state.settle(batch())
    killed = torch.tensor([3, 17])
    state.sae.weights["b_enc"][killed] = -1e4
    counts = [advance(state, plan, batch()) for _ in range(4)]
    before = {name: value.clone() for name, value in state.sae.weights.items()}
    counts.append(advance(state, plan, batch()))
    assert counts == [0, 0, 0, 0, 2]
    w, moments = state.sae.weights, state.optimizer.state()[0]
    assert (w["b_enc"][killed] > -10).all()
    torch.testing.assert_close(w["W_dec"].norm(dim=1), torch.ones(LATENTS))
    kept = torch.ones(LATENTS, dtype=torch.bool).index_fill_(0, killed, False)
    for name in set(w) - {"b_dec"}:
        for moment in ("exp_avg", "exp_avg_sq"):
            rows = moments[f"{name}.{moment}"].reshape(LATENTS, -1).abs().sum(1)
            assert (rows[killed] == 0).all()
            assert (rows[kept] > 0).all()
    assert (w["W_dec"] - before["W_dec"])[kept].abs().max() < 0.02  # one ordinary step


def test_resampled_latents_fire_again(plan: Plan) -> None:
    state = State.fresh(plan, CPU)
    state.settle(batch())
    killed = torch.tensor([3, 17])
    state.sae.weights["b_enc"][killed] = -1e4
    for _ in range(5):
        advance(state, plan, batch())
    z, _ = state.sae.reconstruct(state.normalizer(batch().x, batch().x).x)
    assert (z[:, killed] > 0).any(0).all()
