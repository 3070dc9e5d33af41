"""Moments in bfloat16 train as moments in float32 do, and a run with them resumes exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.engine.test_resume import abandon_after, metrics
from workers.engine import events
from workers.engine.config import Hyperparameters, RunSpec
from workers.engine.moments import _BLOCK, _draw, rounded
from workers.engine.optimizer import Optimizer
from workers.engine.train import train

MakeSpec = Callable[..., RunSpec]
CPU = torch.device("cpu")


def test_rounding_gives_a_neighbour_and_is_right_on_average() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(256, generator=g) * torch.logspace(-20, 20, 256)
    total = torch.zeros(256, dtype=torch.float64)
    for step in range(2000):
        found = rounded(x.clone(), _draw(7, step, 256, CPU)[step % 2])
        assert torch.equal(found, found.bfloat16().float())
        assert bool(((found / x - 1).abs() < 2**-7).all())
        total += found.double()
    # The standard deviation of one rounding is at most half of 2⁻⁷.
    assert float((total / 2000 / x.double() - 1).abs().max()) < 5 * 2**-8 / math.sqrt(2000)


def test_the_draw_is_a_function_of_seed_and_step_alone() -> None:
    (m, v), again = _draw(1, 2, 64, CPU), _draw(1, 2, 64, CPU)
    assert torch.equal(m, again[0])
    assert torch.equal(v, again[1])
    assert not torch.equal(m, v)
    for seed, step in ((1, 3), (2, 2)):
        assert not torch.equal(m, _draw(seed, step, 64, CPU)[0])


def after(moments_dtype: str, steps: int, beta2: float = 0.999) -> dict[str, torch.Tensor]:
    """Weights and moments after so many steps of noisy gradients, more than a block of them."""
    g = torch.Generator().manual_seed(0)
    weights = {"W_enc": torch.randn(_BLOCK["cpu"] // 16 + 3, 32, generator=g)}
    h = Hyperparameters.below_ranges(
        moments_dtype=moments_dtype, adam_beta2=beta2, gradient_clip=None
    )
    optimizer = Optimizer(weights, h)
    for _ in range(steps):
        gradient = 1e-3 * (1 + torch.randn(weights["W_enc"].shape, generator=g))
        optimizer.step({"W_enc": gradient}, 1e-3)
    return optimizer.state()[0] | weights


def test_one_step_is_that_of_torch() -> None:
    ours, torchs = after("bfloat16", 1), after("float32", 1)
    torch.testing.assert_close(ours["W_enc"], torchs["W_enc"], rtol=1e-6, atol=1e-6)


def test_the_average_of_squares_does_not_stall_below_half_of_its_last_place() -> None:
    """Rounded to nearest it would stop at a fraction of what it should reach."""
    ours, torchs = after("bfloat16", 300), after("float32", 300)
    assert ours["W_enc.exp_avg_sq"].dtype == torch.bfloat16
    ratio = ours["W_enc.exp_avg_sq"].double().mean() / torchs["W_enc.exp_avg_sq"].double().mean()
    assert float(ratio) == pytest.approx(1, abs=0.002)
    nearest = torch.zeros((), dtype=torch.bfloat16)
    for _ in range(3000):
        nearest = (nearest.float() * 0.999 + 0.001 * 2e-6).bfloat16()
    assert float(nearest) < 0.5 * 2e-6 * (1 - 0.999**3000)
    moved = (ours["W_enc"] - torchs["W_enc"]).norm() / (
        torchs["W_enc"] - after("float32", 0)["W_enc"]
    ).norm()
    assert float(moved) < 0.02


@pytest.mark.parametrize("moments_dtype", ["float32", "bfloat16"])
def test_forgetting_latents_touches_nothing_that_belongs_to_all(moments_dtype: str) -> None:
    shapes = {"W_enc": (6, 4), "b_enc": (6,), "b_dec": (4,), "W_skip": (4, 4)}
    weights = {name: torch.zeros(shape) for name, shape in shapes.items()}
    optimizer = Optimizer(weights, Hyperparameters(moments_dtype=moments_dtype))
    optimizer.step({name: torch.ones(shape) for name, shape in shapes.items()}, 1e-3)
    optimizer.reset(torch.tensor([1, 3]))
    moments = optimizer.state()[0]
    for name in ("W_enc", "b_enc"):
        rows = moments[f"{name}.exp_avg"].reshape(6, -1).any(1)
        assert rows.tolist() == [True, False, True, False, True, True]
    assert all(bool(moments[f"{name}.exp_avg"].all()) for name in ("b_dec", "W_skip"))


def test_they_take_half_the_memory() -> None:
    sizes = {
        dtype: sum(v.nbytes for name, v in after(dtype, 1).items() if "exp" in name)
        for dtype in ("float32", "bfloat16")
    }
    assert sizes["bfloat16"] * 2 == sizes["float32"]


def test_a_run_with_them_is_resumed_to_the_last_bit(make_spec: MakeSpec, tmp_path: Path) -> None:
    h = {"num_steps": 30, "checkpoint_interval": 9, "log_interval": 5, "resample_steps": 8}
    h |= {"moments_dtype": "bfloat16", "dead_window_tokens": 1024}
    whole = list(train(make_spec("transcoder", **h), tmp_path / "whole"))
    abandon_after(20, make_spec("transcoder", **h), tmp_path / "cut")
    newest = tmp_path / "cut" / "checkpoints" / "step-000018"
    again = list(train(make_spec("transcoder", (newest,), **h), tmp_path / "again"))
    final = "checkpoints/step-000030/tensors.safetensors"
    expected, found = (load_file(tmp_path / r / final) for r in ("whole", "again"))
    assert found["optimizer.W_enc.exp_avg"].dtype == torch.bfloat16
    assert [name for name, value in expected.items() if not torch.equal(found[name], value)] == []
    assert metrics(again) == metrics(whole)[-len(metrics(again)) :]


@pytest.mark.parametrize("architecture", ["standard", "jumprelu"])
def test_a_run_with_them_learns_as_much(
    make_spec: MakeSpec, tmp_path: Path, architecture: str
) -> None:
    fvu = {}
    for dtype in ("float32", "bfloat16"):
        spec = make_spec(architecture, moments_dtype=dtype, num_steps=300, target_l0=12)
        ended = list(train(spec, tmp_path / dtype))[-1]
        assert isinstance(ended, events.Completed)
        assert ended.evaluation is not None
        fvu[dtype] = ended.evaluation["fvu"]
    assert fvu["bfloat16"] == pytest.approx(fvu["float32"], rel=0.05)
