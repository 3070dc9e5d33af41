"""Steps of a run on the kernels: resumed to the bit, and without the host waiting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from workers.engine.activations import Activations
from workers.engine.advance import advance
from workers.engine.config import Hyperparameters, ModelFacts, Plan, TrainingConfig
from workers.engine.divergence import Divergence
from workers.engine.state import State

BATCH, WIDTH, LATENTS = 17, 8, 24
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "standard": ("standard", {"target_l0": 6, "sparsity_warmup_steps": 1}),
    "jumprelu": ("jumprelu", {}),
    "topk": ("standard", {"top_k_sparsity": 10.0}),
    "crosscoder": ("crosscoder", {"target_l0": 6, "sparsity_warmup_steps": 1}),
}
# Without kernels of their own: the host may wait for these.
WAITING: dict[str, tuple[str, dict[str, Any]]] = {
    "batchtopk": ("batchtopk", {"target_l0": 2}),
    "gated": ("gated", {"target_l0": 6}),
    "p-annealed": ("p_annealed", {}),
    "matryoshka": ("matryoshka", {"target_l0": 2, "matryoshka_groups": 3}),
}
KILLED = [3, 17, 18, 20, 22]  # more than the auxiliary loss may use


def make_plan(kind: str) -> Plan:
    architecture, own = (KINDS | WAITING)[kind]
    h = Hyperparameters.below_ranges(
        latent_dim=LATENTS,
        batch_size=BATCH,
        num_steps=100,
        learning_rate=1e-3,
        dead_window_tokens=BATCH,
        **own,
    )
    config = TrainingConfig(architecture=architecture, layer=0)
    config = config.model_copy(update={"hyperparameters": h})
    layers = 2 if config.architecture.spans else 1
    return Plan.of(config, ModelFacts(d_model=WIDTH // layers, n_layers=layers))


def batch(number: int, device: torch.device) -> Activations:
    generator = torch.Generator().manual_seed(number)
    x = torch.randn(BATCH, WIDTH, generator=generator).to(device)
    return Activations(x, x, np.arange(BATCH))


def begun(plan: Plan, device: torch.device) -> State:
    state = State.fresh(plan, device)
    state.settle(batch(0, device))
    state.sae.weights["b_enc"][KILLED] = -3.0
    return state


@pytest.mark.parametrize("kind", ["jumprelu", "topk", *WAITING])
def test_resumed_is_never_interrupted(kind: str, device: torch.device) -> None:
    plan = make_plan(kind)
    whole = begun(plan, device)
    for number in range(3):
        advance(whole, plan, batch(number, device))
        if number == 1:
            tensors, numbers = whole.snapshot()
            tensors = {name: value.clone() for name, value in tensors.items()}
    known = whole.dead.known()
    assert known is not None
    assert set(KILLED) & set(known.tolist())
    again = State.fresh(plan, device)
    again.restore(tensors, numbers)
    advance(again, plan, batch(2, device))
    expected, found = whole.snapshot()[0], again.snapshot()[0]
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_dead_latents_are_listed_without_counting_them(device: torch.device) -> None:
    plan = make_plan("topk")
    state = begun(plan, device)
    state.dead.add(torch.ones(LATENTS, dtype=torch.int64, device=device), BATCH)
    assert state.dead.indices is not None
    assert state.dead.indices.tolist() == [LATENTS] * LATENTS
    assert state.dead.known() is None
    state.dead.restart()
    fired = torch.ones(LATENTS, dtype=torch.int64, device=device)
    fired[KILLED] = 0
    state.dead.add(fired, BATCH)
    known = state.dead.known()
    assert known is not None
    assert known.tolist() == KILLED


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_the_host_waits_for_nothing_between_logged_points(kind: str, device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("only a device can be waited for")
    plan, divergence = make_plan(kind), Divergence()
    state, batches = begun(plan, device), [batch(number, device) for number in range(12)]
    for some in batches[:3]:  # kernels are compiled, memory is reserved
        advance(state, plan, some)
        divergence.found(state.window.loss_sum)
    torch.cuda.synchronize(device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for some in batches[3:]:
            advance(state, plan, some)
            assert not divergence.found(state.window.loss_sum)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert state.window.read()["loss"] > 0
