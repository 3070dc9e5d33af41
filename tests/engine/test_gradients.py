"""Every hand-written backward pass equals naive autograd in double precision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from workers.engine import micro
from workers.engine.sae import (
    BatchTopK,
    Gated,
    JumpRelu,
    Matryoshka,
    PAnnealed,
    Sae,
    Skip,
    Standard,
    Transcoder,
    Weights,
    dense,
)
from workers.engine.sae.activation import Activation
from workers.engine.sae.annealed import Annealed
from workers.engine.sae.batch import TopOfBatch
from workers.engine.sae.dense import Products
from workers.engine.sae.gate import Gate
from workers.engine.sae.jump import Jump
from workers.engine.sae.nested import Nested
from workers.engine.sae.relu import Relu
from workers.engine.sae.topk import TopK

B, D, F, K = 24, 10, 41, 5
COEFFICIENT, BANDWIDTH, AUXK = 0.01, 0.7, 1 / 32
DEAD = torch.tensor([1, 4, 9, 13, 22, 27, 30, 38])  # more than the auxiliary loss may use
ENDS = (3, 16, F)
ARCHITECTURES = (Standard, JumpRelu, Skip, Transcoder)
Loss = Callable[[Weights, Tensor, Tensor], Tensor]


def split_loss(loss: Loss, parts: int) -> Loss:
    """The mean over micro-batches, each of which selects for itself."""

    def mean(w: Weights, x: Tensor, t: Tensor) -> Tensor:
        size = -(-len(x) // parts)
        pairs = zip(x.split(size), t.split(size), strict=True)
        return torch.stack([len(a) / len(x) * loss(w, a, b) for a, b in pairs]).sum()

    return mean


def make(
    activation: Activation | None = None, skip: bool = False
) -> tuple[Weights, Tensor, Tensor]:
    """Weights, input and another layer's activations, in double precision."""
    g = torch.Generator().manual_seed(3)
    shapes = {"W_enc": (F, D), "b_enc": (F,), "W_dec": (F, D), "b_dec": (D,)}
    w = {n: torch.randn(s, generator=g, dtype=torch.float64) / 3 for n, s in shapes.items()}
    if isinstance(activation, Jump):
        w["threshold"] = torch.rand(F, generator=g, dtype=torch.float64)
    if skip:
        w["W_skip"] = torch.randn(D, D, generator=g, dtype=torch.float64) / 3
    if isinstance(activation, Gate):
        w["b_mag"], w["r_mag"] = torch.randn(2, F, generator=g, dtype=torch.float64) / 3
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
    z = only_top(x @ w["W_enc"].T + w["b_enc"], K)
    return mse(w, z, t) + auxiliary_loss(w, x, t, z)


def batch_loss(w: Weights, x: Tensor, t: Tensor) -> Tensor:
    z = only_largest(x @ w["W_enc"].T + w["b_enc"], K * len(x))
    return mse(w, z, t) + auxiliary_loss(w, x, t, z)


def halfway() -> Annealed:
    """After five of eleven steps: p = 0.6, and a factor that makes up for it."""
    activation = Annealed(0.2, 11)
    activation.running["steps"].fill_(5)
    activation.running["factor"].fill_(1.7)
    return activation


def annealed_loss(w: Weights, x: Tensor, t: Tensor) -> Tensor:
    z = (x @ w["W_enc"].T + w["b_enc"]).relu()
    penalty = ((z + 1e-3) ** 0.6 - 1e-3**0.6).sum(1).mean()
    return mse(w, z, t) + 1.7 * COEFFICIENT * penalty


def gated_loss(w: Weights, x: Tensor, t: Tensor) -> Tensor:
    gate = x @ w["W_enc"].T + w["b_enc"]
    mag = w["r_mag"].exp() * (x @ w["W_enc"].T) + w["b_mag"]
    frozen = {name: w[name].detach() for name in ("W_dec", "b_dec")}
    penalty = COEFFICIENT * gate.relu().sum(1).mean()
    return mse(w, (gate > 0) * mag.relu(), t) + penalty + mse(frozen, gate.relu(), t)


def nested_loss(w: Weights, x: Tensor, t: Tensor) -> Tensor:
    z = only_largest(x @ w["W_enc"].T + w["b_enc"], K * len(x))
    prefixes = [torch.cat([z[:, :m], torch.zeros_like(z[:, m:])], 1) for m in ENDS]
    return torch.stack([mse(w, p, t) for p in prefixes]).mean() + auxiliary_loss(w, x, t, z)


class LearnedSkip(Skip):
    """A Skip whose skip is a matrix among its weights."""


def auxiliary_loss(w: Weights, x: Tensor, t: Tensor, z: Tensor) -> Tensor:
    pre = x @ w["W_enc"][DEAD].T + w["b_enc"][DEAD]
    left = (t - z @ w["W_dec"] - w["b_dec"]).detach()
    dead = only_top(pre, min(D // 2, len(DEAD))) @ w["W_dec"][DEAD]
    return AUXK * (dead - left).square().mean()


def mse(w: Weights, z: Tensor, t: Tensor) -> Tensor:
    return (z @ w["W_dec"] + w["b_dec"] - t).square().mean()


def only_top(pre: Tensor, k: int) -> Tensor:
    kept = torch.zeros_like(pre).scatter(1, pre.topk(k, dim=1).indices, 1.0)
    return pre.relu() * kept


def only_largest(pre: Tensor, n: int) -> Tensor:
    flat = pre.flatten()
    kept = torch.zeros_like(flat).scatter(0, flat.topk(n).indices, 1.0)
    return pre.relu() * kept.view_as(pre)


Case = tuple[type[Sae], Activation, Loss]


def by_token() -> list[Case]:
    """Those whose latents at a token depend on that token alone."""
    own: list[Case] = [
        (a, Jump(BANDWIDTH), jump_loss) if a is JumpRelu else (a, Relu(), relu_loss)
        for a in ARCHITECTURES
    ]
    own += [(a, TopK(K, AUXK), topk_loss) for a in ARCHITECTURES]
    own += [(LearnedSkip, Relu(), relu_loss), (LearnedSkip, TopK(K, AUXK), topk_loss)]
    return [*own, (Gated, Gate(), gated_loss), (PAnnealed, halfway(), annealed_loss)]


def over_batch() -> list[Case]:
    return [
        (BatchTopK, TopOfBatch(K, AUXK), batch_loss),
        (Matryoshka, Nested(K, AUXK, ends=ENDS), nested_loss),
    ]


def name(value: object) -> str:
    return str(getattr(value, "__name__", type(value).__name__))


@pytest.fixture(params=["sparse", "dense"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to the same gradients, whatever the number of active latents."""
    most = 1.0 if request.param == "sparse" else -1.0
    monkeypatch.setattr(Products, "worth_sparse", lambda *_: most)
    monkeypatch.setattr(dense, "BLOCK_BYTES", 2000)  # several blocks, the last one shorter
    return str(request.param)


def goal(sae: Sae, w: Weights, x: Tensor, y: Tensor) -> Tensor:
    """What is left of y to the latents and b_dec."""
    if not sae.has_skip:
        return y
    return y - (x @ w["W_skip"].T if "W_skip" in w else x)


def check(
    sae: Sae,
    loss: Loss,
    w: Weights,
    x: Tensor,
    y: Tensor,
    dead: Tensor | None,
    tolerance: float,
    micro_batches: int = 1,
) -> None:
    """Every gradient is autograd's over the whole batch, to so small a part of its norm."""
    leaves = {name: value.clone().requires_grad_() for name, value in w.items()}
    expected = loss(leaves, x, goal(sae, leaves, x, y))
    expected.backward()
    dtype = sae.weights["W_dec"].dtype
    coefficient = torch.tensor(COEFFICIENT, dtype=dtype)
    step = micro.step(sae, x.to(dtype), y.to(dtype), coefficient, dead, micro_batches)
    assert relative(step.loss, expected.detach()) < tolerance
    assert set(step.gradients) == set(w)
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        assert step.gradients[name].dtype == dtype
        assert relative(step.gradients[name], leaf.grad) < tolerance, name


@pytest.mark.parametrize(
    ("architecture", "activation", "loss"),
    by_token() + over_batch(),
    ids=name,
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("target", ["same layer", "other layer"])
def test_gradients_equal_autograd(
    architecture: type[Sae],
    activation: Activation,
    loss: Loss,
    dtype: torch.dtype,
    tolerance: float,
    target: str,
    path: str,
) -> None:
    w, x, other = make(activation, architecture is LearnedSkip)
    y = x if target == "same layer" else other
    sae = architecture({name: value.to(dtype) for name, value in w.items()}, activation)
    check(sae, loss, w, x, y, DEAD, tolerance)


@pytest.mark.parametrize(
    ("architecture", "activation", "loss"),
    by_token(),
    ids=name,
)
@pytest.mark.parametrize("micro_batches", [2, 4, 5, 8])  # of 24 tokens: 5 leaves a shorter last
def test_micro_batches_add_up_to_the_whole_batch(
    architecture: type[Sae], activation: Activation, loss: Loss, micro_batches: int, path: str
) -> None:
    w, x, y = make(activation, architecture is LearnedSkip)
    check(architecture(w, activation), loss, w, x, y, DEAD, 1e-12, micro_batches)
    coefficient = torch.tensor(COEFFICIENT, dtype=torch.float64)
    whole = architecture(w, activation).step(x, y, coefficient, DEAD)
    parts = micro.step(architecture(w, activation), x, y, coefficient, DEAD, micro_batches)
    assert parts.fired_F.tolist() == whole.fired_F.tolist()
    for name in ("reconstruction_loss", "auxiliary", "l0", "l1", "residual_BO", "skip_BO"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), msg=name)


@pytest.mark.parametrize(("architecture", "activation", "loss"), over_batch(), ids=name)
@pytest.mark.parametrize("micro_batches", [2, 5])
def test_what_selects_over_a_batch_selects_within_each_micro_batch(
    architecture: type[Sae], activation: Activation, loss: Loss, micro_batches: int
) -> None:
    w, x, y = make()
    sae = architecture(w, activation)
    check(sae, split_loss(loss, micro_batches), w, x, y, DEAD, 1e-12, micro_batches)
    coefficient = torch.zeros((), dtype=torch.float64)
    parts = micro.step(sae, x, y, coefficient, DEAD, micro_batches)
    assert int(parts.fired_F.sum()) == K * B  # as many as of the whole batch


@pytest.mark.parametrize("activation", [Relu(), TopK(K, AUXK)], ids=name)
def test_a_step_of_a_learned_skip_says_what_the_skip_gave(
    activation: Activation, path: str
) -> None:
    w, x, y = make(activation, skip=True)
    sae = LearnedSkip(w, activation)
    step = sae.step(x, y, torch.tensor(COEFFICIENT, dtype=torch.float64), DEAD)
    assert step.skip_BO is not None
    torch.testing.assert_close(step.skip_BO, x @ w["W_skip"].T)
    torch.testing.assert_close(step.residual_BO, sae.reconstruct(x)[1] - y)
    quick = LearnedSkip({n: v.float() for n, v in w.items()}, activation, torch.bfloat16)
    found = quick.step(x.float(), y.float(), torch.tensor(COEFFICIENT), None).gradients["W_skip"]
    assert found.dtype == torch.float32
    assert relative(found, step.gradients["W_skip"]) < 0.1


@pytest.mark.parametrize("shift", [-100.0, -1.5, 0.0, 1.5, 100.0])
@pytest.mark.parametrize(
    ("activation", "loss"),
    [
        (Relu(), relu_loss),
        (Jump(BANDWIDTH), jump_loss),
        (Gate(), gated_loss),
        (halfway(), annealed_loss),
    ],
    ids=name,
)
def test_any_number_of_active_latents(
    shift: float, activation: Activation, loss: Loss, path: str
) -> None:
    """From none (every row empty, every latent dead) over a few to all of them."""
    w, x, _ = make(activation)
    w["b_enc"] += shift
    sae = Standard({name: value.float() for name, value in w.items()}, activation)
    check(sae, loss, w, x, x, None, 1e-5)


@pytest.mark.parametrize("k", [0, 1, F - 1, F])
@pytest.mark.parametrize("shift", [-100.0, 0.0, 100.0])
def test_any_k(k: int, shift: float) -> None:
    w, x, _ = make()
    w["b_enc"] += shift
    sae = Standard({name: value.float() for name, value in w.items()}, TopK(k, 0.0))
    check(sae, lambda w, x, t: topk_alone(w, x, t, k), w, x, x, None, 1e-5)


def topk_alone(w: Weights, x: Tensor, t: Tensor, k: int) -> Tensor:
    return mse(w, only_top(x @ w["W_enc"].T + w["b_enc"], k), t)


@pytest.mark.parametrize(
    "activation",
    [
        Relu(),
        Jump(BANDWIDTH),
        TopK(K, AUXK),
        TopOfBatch(K, AUXK),
        Nested(K, AUXK, ends=ENDS),
        Gate(),
        halfway(),
    ],
    ids=name,
)
def test_bfloat16_products_give_nearly_the_same(activation: Activation, path: str) -> None:
    w, x, _ = make(activation)
    single = {name: value.float() for name, value in w.items()}
    coefficient = torch.tensor(COEFFICIENT)
    exact = Standard(single, activation).step(x.float(), x.float(), coefficient, None)
    quick = Standard(single, activation, torch.bfloat16).step(
        x.float(), x.float(), coefficient, None
    )
    assert relative(quick.loss, exact.loss.double()) < 0.03
    for name, gradient in exact.gradients.items():
        assert quick.gradients[name].dtype == torch.float32
        assert relative(quick.gradients[name], gradient.double()) < 0.2, name


def relative(found: Tensor, expected: Tensor) -> float:
    """Distance as a part of what is expected, absolute where that is nothing."""
    distance = (found.double() - expected).norm()
    return float(distance / expected.norm() if expected.norm() > 0 else distance)


@pytest.mark.parametrize(
    "activation", [Relu(), Jump(BANDWIDTH), TopK(K, AUXK), Gate(), halfway()], ids=name
)
def test_metrics_of_a_step_are_those_of_its_latents(activation: Activation, path: str) -> None:
    w, x, _ = make(activation)
    sae = Standard(w, activation)
    step = sae.step(x, x, torch.tensor(COEFFICIENT, dtype=torch.float64), None)
    z, x_hat = sae.reconstruct(x)
    torch.testing.assert_close(step.residual_BO, x_hat - x)
    assert step.fired_F.tolist() == (z > 0).sum(0).tolist()
    assert float(step.l0) == pytest.approx(float((z > 0).sum(1).double().mean()))
    assert float(step.l1) == pytest.approx(float(z.sum(1).mean()))
