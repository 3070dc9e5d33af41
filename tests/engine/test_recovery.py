"""Data made of known sparse directions: training finds those directions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
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


@pytest.fixture
def truth() -> torch.Tensor:
    seed = torch.Generator().manual_seed(99)  # not the SAE's: its first weights are random, too
    return normalize(torch.randn(DIRECTIONS, WIDTH, generator=seed), dim=1)


def begun(truth: torch.Tensor, architecture: str, **h: Any) -> tuple[State, Plan]:
    config = TrainingConfig.model_construct(
        architecture=TrainingConfig(architecture=architecture, layer=0).architecture,
        layer=0,
        hyperparameters=Hyperparameters.below_ranges(
            latent_dim=64, batch_size=BATCH, num_steps=STEPS, learning_rate=3e-3, **h
        ),
    )
    plan = Plan.of(config, ModelFacts(d_model=WIDTH, n_layers=1))
    state = State.fresh(plan, torch.device("cpu"))
    state.settle(next(batches(truth)))
    return state, plan


def trained(truth: torch.Tensor, architecture: str, **h: Any) -> State:
    state, plan = begun(truth, architecture, **h)
    for batch in islice(batches(truth), 1, STEPS + 1):
        advance(state, plan, batch)
    return state


@pytest.mark.parametrize(
    ("architecture", "h"),
    [
        ("standard", {"l1_alpha": 0.02}),
        ("jumprelu", {"l0_alpha": 0.02, "sparsity_warmup_steps": 200}),
        ("standard", {"top_k_sparsity": 100 * 4 / 64}),
        ("batchtopk", {"target_l0": 4}),
        ("gated", {"l1_alpha": 0.1}),
        ("p_annealed", {"l1_alpha": 0.02}),
    ],
    ids=["standard", "jumprelu", "topk", "batchtopk", "gated", "p_annealed"],
)
def test_known_directions_are_recovered(
    truth: torch.Tensor, architecture: str, h: dict[str, Any]
) -> None:
    assert cosine(truth, begun(truth, architecture, **h)[0]) < 0.7
    assert cosine(truth, trained(truth, architecture, **h)) > 0.9


def test_the_first_latents_of_a_matryoshka_explain_more_than_those_of_a_batchtopk(
    truth: torch.Tensor,
) -> None:
    """The first half, 32 latents, for 48 directions."""
    left = {
        architecture: left_by_half(truth, trained(truth, architecture, target_l0=4, **h))
        for architecture, h in {"batchtopk": {}, "matryoshka": {"matryoshka_groups": 2}}.items()
    }
    assert left["matryoshka"] < 0.7 * left["batchtopk"]


def left_by_half(truth: torch.Tensor, state: State) -> float:
    """FVU of the reconstruction by the first half of the latents."""
    x = state.normalizer(*[next(batches(truth)).x] * 2).x
    z_BF, w = state.sae.reconstruct(x)[0], state.sae.weights
    x_hat = z_BF[:, :32] @ w["W_dec"][:32] + w["b_dec"]
    return float((x - x_hat).square().sum() / (x - x.mean(0)).square().sum())


def cosine(truth: torch.Tensor, state: State) -> float:
    """Each true direction's best match among the decoder rows, on average."""
    return float((truth @ state.sae.weights["W_dec"].T).max(1).values.mean())
