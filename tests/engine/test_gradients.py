"""Every hand-written backward pass equals naive autograd in double precision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from workers.engine.sae import JumpRelu, Sae, Skip, Standard, Transcoder, Weights
from workers.engine.sae.activation import Activation
from workers.engine.sae.jump import Jump
from workers.engine.sae.relu import Relu
from workers.engine.sae.topk import TopK

B, D, F, K = 24, 10, 40, 5
COEFFICIENT, BANDWIDTH, AUXK = 0.01, 0.7, 1 / 32
DEAD = torch.tensor([1, 4, 9, 13, 22, 27, 30, 38])  # more than the auxiliary loss may use
ARCHITECTURES = (Standard, JumpRelu, Skip, Transcoder)
Loss = Callable[[Weights, Tensor, Tensor], Tensor]


def make(threshold: bool) -> tuple[Weights, Tensor, Tensor]:
    """Weights, input and another layer's activations, in double precision."""
    g = torch.Generator().manual_seed(3)
    shapes = {"W_enc": (F, D), "b_enc": (F,), "W_dec": (F, D), "b_dec": (D,)}
    w = {n: torch.randn(s, generator=g, dtype=torch.float64) / 3 for n, s in shapes.items()}
    if threshold:
        w["threshold"] = torch.rand(F, generator=g, dtype=torch.float64)
    x, y = torch.randn(2, B, D, generator=g, dtype=torch.float64)
    return w, x, y


def relu_loss(w: Weights, x: Tensor, t: Tensor) -> Tensor:
    z = (x @ w["W_enc"].T + w["b_enc"]).relu()
    return mse(w, z, t) + COEFFICIENT * z.sum(1).mean()


def jump_loss(w: Weights, x: Tensor, t: Tensor) -> Tensor:
    """A step whose value is the step's and whose slope is a ramp's."""
    pre = x @ w["W_enc"].T + w["b_enc"]
    ramp = ((pre - w["threshold"]) / BANDWIDTH + 0.5).clamp(0, 1)
    step = ramp + ((pre > w["threshold"]).double() - ramp).detach()
    return mse(w, pre * step, t) + COEFFICIENT * step.sum(1).mean()


def topk_loss(w: Weights, x: Tensor, t: Tensor) -> Tensor:
    pre = x @ w["W_enc"].T + w["b_enc"]
    left = (t - only_top(pre, K) @ w["W_dec"] - w["b_dec"]).detach()
    dead = only_top(pre[:, DEAD], min(D // 2, len(DEAD))) @ w["W_dec"][DEAD]
    return mse(w, only_top(pre, K), t) + AUXK * (dead - left).square().mean()


def mse(w: Weights, z: Tensor, t: Tensor) -> Tensor:
    return (z @ w["W_dec"] + w["b_dec"] - t).square().mean()


def only_top(pre: Tensor, k: int) -> Tensor:
    kept = torch.zeros_like(pre).scatter(1, pre.topk(k, dim=1).indices, 1.0)
    return pre.relu() * kept


def cases() -> list[tuple[type[Sae], Activation, Loss]]:
    own: list[tuple[type[Sae], Activation, Loss]] = [
        (a, Jump(BANDWIDTH), jump_loss) if a is JumpRelu else (a, Relu(), relu_loss)
        for a in ARCHITECTURES
    ]
    return own + [(a, TopK(K, AUXK), topk_loss) for a in ARCHITECTURES]


@pytest.mark.parametrize(
    ("architecture", "activation", "loss"),
    cases(),
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_gradients_equal_autograd(
    architecture: type[Sae],
    activation: Activation,
    loss: Loss,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    w, x, other = make(threshold=isinstance(activation, Jump))
    y = x if architecture in (Standard, JumpRelu) else other
    leaves = {name: value.clone().requires_grad_() for name, value in w.items()}
    expected = loss(leaves, x, y - x if architecture is Skip else y)
    expected.backward()

    sae = architecture({name: value.to(dtype) for name, value in w.items()}, activation)
    coefficient = torch.tensor(COEFFICIENT, dtype=dtype)
    step = sae.step(x.to(dtype), y.to(dtype), coefficient, DEAD)

    assert relative(step.loss, expected.detach()) < tolerance
    assert set(step.gradients) == set(w)
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        assert leaf.grad.norm() > 0
        assert relative(step.gradients[name], leaf.grad) < tolerance, name


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("activation", [Relu(), Jump(BANDWIDTH), TopK(K, AUXK)])
def test_metrics_of_a_step_are_those_of_its_latents(activation: Activation) -> None:
    w, x, _ = make(threshold=isinstance(activation, Jump))
    sae = Standard(w, activation)
    step = sae.step(x, x, torch.tensor(COEFFICIENT, dtype=torch.float64), None)
    z, x_hat = sae.reconstruct(x)
    torch.testing.assert_close(step.residual_BO, x_hat - x)
    assert step.fired_F.tolist() == (z > 0).sum(0).tolist()
    assert float(step.l0) == pytest.approx(float((z > 0).sum(1).double().mean()))
    assert float(step.l1) == pytest.approx(float(z.sum(1).mean()))
