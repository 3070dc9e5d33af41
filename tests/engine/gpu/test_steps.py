"""Whole steps on the kernels equal naive autograd in double precision, and themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tests.engine import test_gradients as reference
from tests.engine.test_gradients import (
    AUXK,
    BANDWIDTH,
    COEFFICIENT,
    K,
    LearnedSkip,
    Loss,
    relative,
)
from workers.engine.sae import (
    BatchTopK,
    Gated,
    JumpRelu,
    Matryoshka,
    PAnnealed,
    Sae,
    Skip,
    Standard,
    Step,
    Transcoder,
)
from workers.engine.sae.activation import Activation
from workers.engine.sae.annealed import Annealed
from workers.engine.sae.batch import TopOfBatch
from workers.engine.sae.gate import Gate
from workers.engine.sae.gpu import steps
from workers.engine.sae.jump import Jump
from workers.engine.sae.nested import Nested
from workers.engine.sae.relu import Relu
from workers.engine.sae.topk import TopK

from .conftest import needs_bfloat16_products

RELU, JUMP, TOPK = Relu(), Jump(BANDWIDTH), TopK(K, AUXK)
LOSSES: dict[type[Activation], Loss] = {
    Relu: reference.relu_loss,
    Jump: reference.jump_loss,
    TopK: reference.topk_loss,
    TopOfBatch: reference.batch_loss,
    Nested: reference.nested_loss,
    Gate: reference.gated_loss,
    Annealed: reference.annealed_loss,
}


def take(sae: Sae, x: Tensor, y: Tensor, device: torch.device, dead: Tensor | None = None) -> Step:
    """A step of the SAE there, in float32."""
    sae.weights = {name: value.float().to(device) for name, value in sae.weights.items()}
    coefficient = torch.tensor(COEFFICIENT, device=device)
    dead = None if dead is None else dead.to(device)
    return sae.step(x.float().to(device), y.float().to(device), coefficient, dead)


def check(sae: Sae, x: Tensor, y: Tensor, device: torch.device, dead: Tensor | None = None) -> None:
    """Loss and every gradient are autograd's, to 1e-5 of its norm."""
    leaves = {name: value.clone().requires_grad_() for name, value in sae.weights.items()}
    expected = LOSSES[type(sae.activation)](leaves, x, reference.goal(sae, leaves, x, y))
    expected.backward()
    step = take(sae, x, y, device, dead)
    assert relative(step.loss.cpu(), expected.detach()) < 1e-5
    assert set(step.gradients) == set(leaves)
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        assert relative(step.gradients[name].cpu(), leaf.grad) < 1e-5, name


def tensors(step: Step) -> Iterator[Tensor]:
    yield from step.gradients.values()
    yield from (step.loss, step.l0, step.l1, step.residual_BO, step.fired_F)


@pytest.fixture(params=[1.0, 0.0], ids=["listed", "overflowing"])
def room(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """Lists for every pair there is, or for none."""
    monkeypatch.setattr(steps, "WORTH_SPARSE", request.param)
    return float(request.param)


@pytest.mark.parametrize(
    ("architecture", "activation"),
    [
        (Standard, RELU),
        (JumpRelu, JUMP),
        (Skip, RELU),
        (Transcoder, RELU),
        (Standard, TOPK),
        (Skip, TOPK),
        (LearnedSkip, RELU),
        (LearnedSkip, TOPK),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_gradients_equal_autograd(
    architecture: type[Sae], activation: Activation, device: torch.device, room: float
) -> None:
    if isinstance(activation, TopK) and not room:
        pytest.skip("TopK knows its number of pairs beforehand")
    w, x, other = reference.make(activation, architecture is LearnedSkip)
    y = x if architecture is Standard else other
    check(architecture(w, activation), x, y, device, reference.DEAD)


@pytest.mark.parametrize("filled_up", [False, True])
@pytest.mark.parametrize(
    ("architecture", "activation"),
    [
        (BatchTopK, TopOfBatch(K, AUXK)),
        (Matryoshka, Nested(K, AUXK, ends=reference.ENDS)),
        (Gated, Gate()),
        (PAnnealed, reference.halfway()),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_what_has_no_kernels_of_its_own_takes_its_dead_latents_as_they_do(
    architecture: type[Sae], activation: Activation, device: torch.device, filled_up: bool
) -> None:
    w, x, _ = reference.make(activation)
    none = torch.full((reference.F - len(reference.DEAD),), reference.F)
    dead = torch.cat([reference.DEAD, none]) if filled_up else reference.DEAD
    for value in activation.running.values():
        value.data = value.to(device)
    check(architecture(w, activation), x, x, device, dead)


@pytest.mark.parametrize("activation", [RELU, JUMP], ids=["relu", "jump"])
@pytest.mark.parametrize("shift", [-100.0, 100.0])
def test_no_latent_active_and_all_of_them(
    activation: Activation, shift: float, device: torch.device, room: float
) -> None:
    w, x, _ = reference.make(activation)
    w["b_enc"] += shift
    check(Standard(w, activation), x, x, device)


def test_few_active_and_one_at_every_token(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "WORTH_SPARSE", 1.0)
    w, x, _ = reference.make()
    w["b_enc"] -= 1.5
    w["b_enc"][7] += 100
    check(Standard(w, RELU), x, x, device)


@pytest.mark.parametrize("every", [False, True])
def test_the_ends_of_k(every: bool, device: torch.device) -> None:
    k = reference.F if every else 0
    w, x, _ = reference.make()
    z = (x @ w["W_enc"].T + w["b_enc"]).relu() if k else x.new_zeros(len(x), reference.F)
    step = take(Standard(w, TopK(k, 0.0)), x, x, device)
    assert relative(step.reconstruction_loss.cpu(), reference.mse(w, z, x)) < 1e-5
    assert step.fired_F.tolist() == (z > 0).sum(0).tolist()
    assert float(step.l1) == pytest.approx(float(z.sum(1).mean()))


def test_a_batch_is_listed_or_not_by_itself_alone(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One pair too many, and the step is the same to rounding: nothing is left out."""
    w, x, _ = reference.make()
    active = int(((x @ w["W_enc"].T + w["b_enc"]) > 0).sum())
    for room in (active, active - 1):
        monkeypatch.setattr(steps, "WORTH_SPARSE", (room + 0.5) / (len(x) * reference.F))
        check(Standard(dict(w), RELU), x, x, device)


@pytest.mark.parametrize("activation", [RELU, JUMP, TOPK], ids=["relu", "jump", "topk"])
def test_a_repeated_step_has_the_same_bits(activation: Activation, device: torch.device) -> None:
    w, x, _ = reference.make(activation)
    first, second = (
        take(Standard(dict(w), activation), x, x, device, reference.DEAD) for _ in range(2)
    )
    for a, b in zip(tensors(first), tensors(second), strict=True):
        assert torch.equal(a, b)


def test_without_dead_latents_the_auxiliary_loss_changes_no_bit(device: torch.device) -> None:
    w, x, _ = reference.make()
    nobody = torch.full((reference.F,), reference.F)  # as `DeadLatents.indices` fills up
    found = take(Standard(dict(w), TOPK), x, x, device, nobody)
    expected = take(Standard(dict(w), TOPK), x, x, device, None)
    for a, b in zip(tensors(found), tensors(expected), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("activation", [RELU, JUMP, TOPK], ids=["relu", "jump", "topk"])
def test_bfloat16_products_give_nearly_the_same(
    activation: Activation, device: torch.device, room: float
) -> None:
    needs_bfloat16_products(device)
    w, x, _ = reference.make(activation)
    exact = take(Standard(dict(w), activation), x, x, device, reference.DEAD)
    quick = take(Standard(dict(w), activation, torch.bfloat16), x, x, device, reference.DEAD)
    assert relative(quick.loss, exact.loss.double()) < 0.03
    for name, gradient in exact.gradients.items():
        assert quick.gradients[name].dtype == torch.float32
        assert relative(quick.gradients[name], gradient.double()) < 0.2, name
