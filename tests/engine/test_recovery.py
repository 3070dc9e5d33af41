"""Data made of known sparse directions: training finds those directions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from workers.engine.activations import Activations
from workers.engine.advance import advance
from workers.engine.config import Hyperparameters, ModelFacts, Plan, TrainingConfig
from workers.engine.state import State

WIDTH, DIRECTIONS, ACTIVE, BATCH, STEPS = 32, 48, 3, 512, 1200


def batches(truth: torch.Tensor) -> Iterator[Activations]:
    """Every token is a sum of about three directions, each with a strength between 1 and 2."""
    g = torch.Generator().manual_seed(1)
    while True:
        on = torch.rand(BATCH, DIRECTIONS, generator=g) < ACTIVE / DIRECTIONS
        x = (on * (1 + torch.rand(BATCH, DIRECTIONS, generator=g))) @ truth
        yield Activations(x, x, np.arange(BATCH))


@pytest.mark.parametrize(
    ("architecture", "h"),
    [
        ("standard", {"l1_alpha": 0.02}),
        ("jumprelu", {"l0_alpha": 0.02, "sparsity_warmup_steps": 200}),
        ("standard", {"top_k_sparsity": 100 * 4 / 64}),
    ],
    ids=["standard", "jumprelu", "topk"],
)
def test_known_directions_are_recovered(architecture: str, h: dict[str, Any]) -> None:
    seed = torch.Generator().manual_seed(99)  # not the SAE's: its first weights are random, too
    truth = normalize(torch.randn(DIRECTIONS, WIDTH, generator=seed), dim=1)
    config = TrainingConfig.model_construct(
        architecture=TrainingConfig(architecture=architecture, layer=0).architecture,
        layer=0,
        hyperparameters=Hyperparameters.below_ranges(
            latent_dim=64, batch_size=BATCH, num_steps=STEPS, learning_rate=3e-3, **h
        ),
    )
    plan = Plan.of(config, ModelFacts(d_model=WIDTH, n_layers=1))
    state, data = State.fresh(plan, torch.device("cpu")), batches(truth)
    state.settle(next(data))
    before = cosine(truth, state)
    for _ in range(STEPS):
        advance(state, plan, next(data))
    assert before < 0.7
    assert cosine(truth, state) > 0.9


def cosine(truth: torch.Tensor, state: State) -> float:
    """Each true direction's best match among the decoder rows, on average."""
    return float((truth @ state.sae.weights["W_dec"].T).max(1).values.mean())
