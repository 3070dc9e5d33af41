"""A crosscoder is the paper's: its loss, its gradients, its layers each at their own scale.

Legend of shapes: B tokens, F latents, L layers, D width of one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.engine.test_gradients import name, only_top, relative
from workers.engine import events, micro
from workers.engine.activations import Activations, Reader
from workers.engine.cache import CacheFolder
from workers.engine.config import CacheSpec, ModelFacts, Plan, RunSpec
from workers.engine.forward import Forward
from workers.engine.language_model import LanguageModel, Site
from workers.engine.metrics import Window
from workers.engine.normalize import Normalizer
from workers.engine.order import Groups
from workers.engine.preflight import Preflight
from workers.engine.resample import resample
from workers.engine.sae import Crosscoder, Weights, build, dense, spanning
from workers.engine.sae.activation import Activation
from workers.engine.sae.dense import Products
from workers.engine.sae.relu import Relu
from workers.engine.sae.topk import TopK
from workers.engine.saved import open_sae
from workers.engine.tokens import Tokens
from workers.engine.train import train

MakeSpec = Callable[..., RunSpec]
B, D, L, F, K = 24, 5, 3, 41, 6
ALL, ALPHA = L * D, 0.02
CPU = torch.device("cpu")
CASES = [Relu(), TopK(K, 0.0)]


def free() -> tuple[Weights, Tensor]:
    """Weights whose norms are anything, and activations of three layers, in double precision."""
    g = torch.Generator().manual_seed(4)
    shapes = {"W_enc": (F, ALL), "b_enc": (F,), "W_dec": (F, ALL), "b_dec": (ALL,)}
    w = {n: torch.randn(s, generator=g, dtype=torch.float64) / 3 for n, s in shapes.items()}
    return w, torch.randn(B, ALL, generator=g, dtype=torch.float64)


def mean_norm(W_FO: Tensor, width: int = D) -> Tensor:
    """[F, 1], written otherwise than in the engine."""
    norms = [part.square().sum(1).sqrt() for part in W_FO.split(width, dim=1)]
    return torch.stack(norms).mean(0)[:, None]


def paper_loss(w: Weights, x: Tensor, activation: Activation) -> Tensor:
    """Lindsey et al.: squared errors of all layers, and z weighed by the sum of a latent's norms.

    Over L for the penalty and L · D for the errors, as everything here is a mean.
    """
    weight_1F = mean_norm(w["W_dec"]).T
    pre = x @ w["W_enc"].T + w["b_enc"]
    if isinstance(activation, TopK):
        z = only_top(pre * weight_1F, K) / weight_1F
        return (z @ w["W_dec"] + w["b_dec"] - x).square().mean()
    z = pre.relu()
    errors = (z @ w["W_dec"] + w["b_dec"] - x).square().mean()
    return errors + ALPHA * (z * weight_1F).sum(1).mean()


def scaled(w: Weights) -> Weights:
    """The same crosscoder as ours: latents times N, decoder rows by it."""
    n = mean_norm(w["W_dec"])
    return w | {
        "W_enc": w["W_enc"] * n,
        "b_enc": w["b_enc"] * n[:, 0],
        "W_dec": w["W_dec"] / n,
    }


@pytest.fixture(params=["sparse", "dense"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 1.0 if request.param == "sparse" else -1.0
    monkeypatch.setattr(Products, "worth_sparse", lambda *_: most)
    monkeypatch.setattr(dense, "BLOCK_BYTES", 2000)


@pytest.mark.parametrize("activation", CASES, ids=name)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("micro_batches", [1, 5])
@pytest.mark.usefixtures("path")
def test_loss_and_gradients_are_those_of_the_papers_loss(
    activation: Activation, dtype: torch.dtype, tolerance: float, micro_batches: int
) -> None:
    """Autograd goes through the paper's weights, whose norms are free, as functions of ours."""
    w, x = free()
    ours = {n: value.to(dtype) for n, value in scaled(w).items()}
    leaves = {n: value.clone().requires_grad_() for n, value in scaled(w).items()}
    n = mean_norm(leaves["W_dec"])
    theirs = leaves | {"W_enc": leaves["W_enc"] / n, "b_enc": leaves["b_enc"] / n[:, 0]}
    expected = paper_loss(theirs, x, activation)
    torch.testing.assert_close(expected, paper_loss(w, x, activation))
    expected.backward()
    sae = Crosscoder(ours, activation, layers=L)
    x = x.to(dtype)
    step = micro.step(sae, x, x, torch.tensor(ALPHA, dtype=dtype), None, micro_batches)
    sae.remove_parallel(step.gradients)
    assert relative(step.loss, expected.detach()) < tolerance
    for key, leaf in leaves.items():
        assert leaf.grad is not None
        assert relative(step.gradients[key], leaf.grad) < tolerance, key


def test_a_step_along_the_gradient_lengthens_no_row() -> None:
    w, x = free()
    sae = Crosscoder(scaled(w), Relu(), layers=L)
    step = sae.step(x, x, torch.tensor(ALPHA, dtype=torch.float64), None)
    sae.remove_parallel(step.gradients)
    along = (step.gradients["W_dec"] * sae.weights["W_dec"]).sum(1)
    torch.testing.assert_close(along, torch.zeros(F, dtype=torch.float64))
    sae.weights["W_dec"].sub_(step.gradients["W_dec"], alpha=5.0)
    assert float((mean_norm(sae.weights["W_dec"]) - 1).abs().max()) > 1e-3
    sae.project()
    torch.testing.assert_close(mean_norm(sae.weights["W_dec"]), torch.ones(F, 1).double())


def test_a_row_that_writes_nothing_to_a_layer_has_a_finite_gradient() -> None:
    w, _ = free()
    w["W_dec"][:, :D] = 0
    W_dec = spanning.normalize(w["W_dec"], L)
    gradient = torch.ones_like(W_dec)
    spanning.remove_radial(gradient, W_dec, L)
    assert bool(gradient.isfinite().all())
    torch.testing.assert_close(gradient[:, :D], torch.ones(F, D).double())


def test_of_one_layer_the_constraint_is_the_standard_one() -> None:
    w, _ = free()
    W_dec = spanning.normalize(w["W_dec"].clone(), 1)
    torch.testing.assert_close(W_dec.norm(dim=1), torch.ones(F).double())
    gradient = torch.randn_like(W_dec)
    expected = gradient - (gradient * W_dec).sum(1, keepdim=True) * W_dec
    spanning.remove_radial(gradient, W_dec, 1)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("hook", ["resid_post", "mlp_out"])
def test_at_the_start_each_layer_is_reconstructed_at_its_size(
    make_spec: MakeSpec, hook: str
) -> None:
    """Of the residual stream, whose layers are much alike, by one direction for all."""
    plan = plan_of(make_spec("crosscoder", layers=(1, 2, 3), latent_dim=2048, hook=hook))
    sae, g = build(plan, CPU), torch.Generator().manual_seed(1)
    x = torch.randn(400, plan.d_in, generator=g)
    if hook == "resid_post":
        x = x / 10 + torch.randn(400, 32, generator=g).repeat(1, 3)
    parts = sae.weights["W_dec"].chunk(3, 1)
    assert torch.equal(parts[0], parts[2]) is (hook == "resid_post")
    torch.testing.assert_close(mean_norm(sae.weights["W_dec"], 32), torch.ones(2048, 1))
    _, x_hat = sae.reconstruct(x)
    for part, found in zip(x.chunk(3, 1), x_hat.chunk(3, 1), strict=True):
        slope = float((part * found).sum() / part.square().sum())
        assert slope == pytest.approx(1, abs=0.1)


def plan_of(spec: RunSpec) -> Plan:
    return Plan.of(spec.config, ModelFacts(d_model=32, n_layers=4))


def test_each_layer_has_its_own_constant() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.cat([torch.randn(300, D, generator=g) * size for size in (1, 30, 0)], 1)
    normalizer = Normalizer.estimate("constant_norm", False, x, x, 3)
    found = normalizer(x, x)
    assert found.x is found.y
    for part in found.x.chunk(3, 1)[:2]:
        assert float(part.norm(dim=1).mean()) == pytest.approx(D**0.5, rel=1e-5)
    torch.testing.assert_close(found.restore(found.y), x)


def test_under_layer_norm_each_token_is_scaled_layer_by_layer() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.cat([torch.randn(30, D, generator=g) * size + size for size in (1, 30)], 1)
    found = Normalizer("layer_norm", False, layers=2)(x, x)
    for part in found.x.chunk(2, 1):
        torch.testing.assert_close(part.mean(1), torch.zeros(30), atol=1e-5, rtol=0)
        torch.testing.assert_close(part.std(1), torch.ones(30), atol=1e-3, rtol=0)
    torch.testing.assert_close(found.restore(found.y), x, atol=1e-3, rtol=1e-4)


def test_fvu_is_that_of_each_layer_and_their_mean(make_batch: Callable[..., Any]) -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.cat([torch.randn(50, D, generator=g) * size + 1 for size in (1, 100)], 1)
    normalizer = Normalizer.estimate("constant_norm", False, x, x, 2)
    window = Window(2 * D, False, CPU, 2)
    normalized = normalizer(x, x)
    noise = torch.randn(50, 2 * D, generator=g) * torch.tensor([0.3] * D + [0.1] * D)
    window.add(make_batch(x), normalized, noise, [torch.zeros(())] * 4)
    expected = [
        float(((x_hat - part).square().sum() / (part - part.mean(0)).square().sum()).double())
        for part, x_hat in zip(
            x.chunk(2, 1), normalized.restore(normalized.y + noise).chunk(2, 1), strict=True
        )
    ]
    assert window.fvu_by_layer() == pytest.approx(expected, rel=1e-3)
    assert window.read()["fvu"] == pytest.approx(sum(expected) / 2, rel=1e-3)
    window.clear()
    assert window.tokens == 0
    assert not bool(window.state()[0]["by_layer"].any())


@pytest.fixture
def make_batch() -> Callable[[Tensor], Any]:
    return lambda x: Activations(x, x, np.arange(len(x)))


def test_the_reader_puts_the_layers_side_by_side(model_folder: Path, tokens: Tokens) -> None:
    sites = (Site(1, "resid_post"), Site(3, "resid_post"))
    groups = Groups.of(tokens, 4)

    def read(sites: tuple[Site, ...], beside: bool) -> Any:
        def load() -> LanguageModel:
            return LanguageModel.load(model_folder, sites, CPU, torch.float32)

        forward = Forward(load, tokens, groups, CPU, torch.float32)
        parts = [groups.part(number) for number in (0, 2)]
        return Reader(tokens, groups, forward, CPU, None, beside).read(parts)

    both = read(sites, True)
    assert both.y is both.x
    alone = [read((site,), False).x for site in sites]
    assert torch.equal(both.x, torch.cat(alone, 1))


def test_resampled_latents_keep_the_constraint() -> None:
    w, x = free()
    sae = Crosscoder(scaled(w), Relu(), layers=L)
    step = sae.step(x, x, torch.tensor(ALPHA, dtype=torch.float64), None)
    resample(sae, torch.tensor([3, 7]), x, step, same_space=True, seed=1)
    norms = mean_norm(sae.weights["W_dec"])
    torch.testing.assert_close(norms, torch.ones(F, 1).double())
    read, written = sae.weights["W_enc"][3], sae.weights["W_dec"][3]
    assert float(torch.cosine_similarity(read, written, dim=0)) == pytest.approx(1)


@pytest.mark.parametrize("method", ["none", "constant_norm", "layer_norm"])
@pytest.mark.parametrize("top_k", [None, 5.0])
def test_a_run_lowers_fvu_and_its_folder_reads_back(
    make_spec: MakeSpec, tmp_path: Path, method: str, top_k: float | None
) -> None:
    h: dict[str, Any] = {"normalize_activations": method, "top_k_sparsity": top_k}
    spec = make_spec("crosscoder", layers=(1, 3), num_steps=150, **h)
    found = list(train(spec, tmp_path))
    points = [e for e in found if isinstance(e, events.Progress)]
    assert points[-1].fvu < 0.7 * points[0].fvu
    (started,) = [e for e in found if isinstance(e, events.Started)]
    assert started.d_in == 64
    ended = found[-1]
    assert isinstance(ended, events.Completed)
    assert ended.export is not None
    assert ended.export["format"] == "safetensors"
    assert ended.export["max_difference"] < 1e-5
    (warned,) = [e for e in found if isinstance(e, events.Warned) and e.code == "export"]
    assert "SAELens has no crosscoders" in warned.message
    assert ended.evaluation is not None
    by_layer = ended.evaluation["by_layer"]
    assert [each["layer"] for each in by_layer] == [1, 3]
    mean = sum(each["fvu"] for each in by_layer) / 2
    assert ended.evaluation["fvu"] == pytest.approx(mean)


def test_the_folder_is_what_its_cfg_says(make_spec: MakeSpec, tmp_path: Path) -> None:
    """Read with nothing but safetensors and the equations that stand in it."""
    list(train(make_spec("crosscoder", layers=(1, 2, 3), num_steps=60), tmp_path))
    config = json.loads((tmp_path / "sae" / "cfg.json").read_text())
    assert (config["version"], config["n_layers"], config["layers"]) == (2, 3, [1, 2, 3])
    assert (config["d_in"], config["d_sae"], config["d_out"]) == (32, 128, 32)
    assert config["metadata"]["hook_names"] == [f"blocks.{n}.hook_resid_post" for n in (1, 2, 3)]
    w = load_file(tmp_path / "sae" / "sae_weights.safetensors")
    assert {n: list(value.shape) for n, value in w.items()} == {
        "W_enc": [3, 32, 128],
        "b_enc": [128],
        "W_dec": [128, 3, 32],
        "b_dec": [3, 32],
    }
    assert config["tensors"]["W_dec"] == ["d_sae", "n_layers", "d_out"]
    x = torch.randn(7, 3, 32)
    z = (torch.einsum("bld,ldf->bf", x, w["W_enc"]) + w["b_enc"]).relu()
    y = torch.einsum("bf,fld->bld", z, w["W_dec"]) + w["b_dec"]
    sae = open_sae(tmp_path / "sae")
    assert sae.across == tuple(Site(n, "resid_post") for n in (1, 2, 3))
    found_z, found_y = sae.reconstruct(x.flatten(1), x.flatten(1))
    torch.testing.assert_close(found_z, z, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found_y, y.flatten(1), rtol=1e-4, atol=1e-3)
    # What is written to a layer, as a part of that layer's size, is 1 on average as in training.
    torch.testing.assert_close(sae.layer_norms.mean(1), torch.ones(128))


def test_a_cached_run_is_the_one_without_and_serves_single_layers(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    h: dict[str, Any] = {"num_steps": 60, "buffer_tokens": 16_000}
    cache = CacheSpec(folder=tmp_path / "cache", limit_bytes=10**9)
    final = "checkpoints/step-000060/tensors.safetensors"
    outcomes = []
    for kept, run in ((None, "without"), (cache, "filling"), (cache, "filled")):
        events_ = list(train(make_spec("crosscoder", cache=kept, **h), tmp_path / run))
        outcomes.append(load_file(tmp_path / run / final))
    (started,) = [e for e in events_ if isinstance(e, events.Started)]
    assert started.cached_fraction == 1
    for outcome in outcomes[1:]:
        assert all(torch.equal(outcome[key], value) for key, value in outcomes[0].items())
    layers = [entry.manifest.identity.layer for entry in CacheFolder(cache.folder, 1).entries()]
    assert sorted(layers) == [1, 2]
    alone = list(train(make_spec("standard", cache=cache, **h), tmp_path / "alone"))
    (started,) = [e for e in alone if isinstance(e, events.Started)]
    assert started.cached_fraction == 1


def test_micro_batches_make_nearly_the_same_run(
    make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec("crosscoder", num_steps=20)
    whole = [e for e in train(spec, tmp_path / "whole") if isinstance(e, events.Progress)]
    monkeypatch.setattr("workers.engine.fit.preflight", lambda _: Preflight(4, False, 0, ""))
    parts = [e for e in train(spec, tmp_path / "parts") if isinstance(e, events.Progress)]
    assert parts[-1].loss == pytest.approx(whole[-1].loss, rel=1e-3)
