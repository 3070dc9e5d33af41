"""The folder on disk is the SAE that was trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from workers.engine.activations import Activations
from workers.engine.config import ModelFacts, Plan, RunSpec
from workers.engine.evaluate import Evaluation
from workers.engine.export import ExportError, export, reconstruct
from workers.engine.language_model import Site
from workers.engine.sae import project
from workers.engine.saved import open_sae
from workers.engine.state import State

WIDTH = 32
MakeSpec = Callable[..., RunSpec]
METHODS = ("none", "constant_norm", "layer_norm")
KINDS = [
    (architecture, method, top_k)
    for architecture in (
        "standard",
        "jumprelu",
        "skip",
        "transcoder",
        "batchtopk",
        "matryoshka",
        "p_annealed",
    )
    for method in METHODS
    for top_k in (None, 5.0)
] + [("gated", method, None) for method in METHODS]


def make(spec: RunSpec) -> tuple[State, Plan, Evaluation]:
    """An SAE with random weights, normalized for activations far from the origin."""
    plan = Plan.of(spec.config, ModelFacts(d_model=WIDTH, n_layers=4))
    state = State.fresh(plan, torch.device("cpu"))
    g = torch.Generator().manual_seed(0)
    x = torch.randn(200, WIDTH, generator=g) * 5 + 2
    y = torch.randn(200, WIDTH, generator=g) * 20 - 3 if plan.has_own_target else x
    sample = Activations(x, y, np.arange(200))
    state.settle(sample)
    for value in state.sae.weights.values():
        value.add_(torch.randn(value.shape, generator=g) / 10)
    project(state.sae.weights)
    if "threshold" in state.sae.activation.running:
        state.sae.activation.running["threshold"].fill_(0.7)
    return state, plan, Evaluation({}, torch.rand(plan.d_sae, generator=g), sample)


@pytest.mark.parametrize(("architecture", "method", "top_k"), KINDS)
def test_what_is_read_back_reconstructs_the_same_from_raw_activations(
    make_spec: MakeSpec, tmp_path: Path, architecture: str, method: str, top_k: float | None
) -> None:
    spec = make_spec(architecture, normalize_activations=method, top_k_sparsity=top_k)
    state, plan, evaluation = make(spec)
    exported = export(state.sae, state.normalizer, plan, spec, tmp_path / "sae", {}, evaluation)
    assert exported.max_difference < 1e-5
    sample = evaluation.sample
    z_BF, y_hat = reconstruct(tmp_path / "sae", sample.x, sample.y)
    normalized = state.normalizer(sample.x, sample.y)
    trained = normalized.restore(state.sae.reconstruct(normalized.x)[1])
    torch.testing.assert_close(y_hat, trained, rtol=1e-3, atol=1e-3)
    assert (z_BF > 0).any()
    two_sided = architecture in ("skip", "transcoder")
    plain = two_sided and (top_k is not None or method == "layer_norm")
    assert (exported.format == "safetensors") is plain
    assert bool(exported.why_plain) is plain


def test_the_folder_holds_config_weights_and_sparsity(make_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_spec("transcoder")
    state, plan, evaluation = make(spec)
    export(state.sae, state.normalizer, plan, spec, tmp_path / "sae", {"l0": 3.0}, evaluation)
    config = json.loads((tmp_path / "sae" / "cfg.json").read_text())
    assert (config["architecture"], config["d_in"], config["d_out"]) == ("transcoder", 32, 32)
    assert config["apply_b_dec_to_input"] is False
    assert config["metadata"]["hook_name"] == "blocks.1.hook_resid_post"
    assert config["metadata"]["hook_name_out"] == "blocks.2.hook_resid_post"
    assert config["metadata"]["l0"] == 3.0
    sparsity = load_file(tmp_path / "sae" / "sparsity.safetensors")["sparsity"]
    torch.testing.assert_close(10**sparsity, evaluation.frequency_F)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sae"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("top_k", [None, 5.0])
def test_a_learned_skip_is_read_back_as_it_was_trained(
    make_spec: MakeSpec, tmp_path: Path, method: str, top_k: float | None
) -> None:
    spec = make_spec("skip", skip="learned", normalize_activations=method, top_k_sparsity=top_k)
    state, plan, evaluation = make(spec)
    exported = export(state.sae, state.normalizer, plan, spec, tmp_path / "sae", {}, evaluation)
    assert exported.max_difference < 1e-5
    found, x = open_sae(tmp_path / "sae"), evaluation.sample.x
    alone = found.skip_alone(x, evaluation.sample.y)
    normalized = state.normalizer(x, evaluation.sample.y)
    expected = state.sae.skip(normalized.x) + state.sae.weights["b_dec"]
    torch.testing.assert_close(alone, normalized.restore(expected), rtol=1e-3, atol=1e-3)


def test_a_skip_that_adds_the_input_is_known_for_one(make_spec: MakeSpec, tmp_path: Path) -> None:
    state, plan, evaluation = make(spec := make_spec("skip"))
    export(state.sae, state.normalizer, plan, spec, tmp_path / "sae", {}, evaluation)
    x = evaluation.sample.x
    assert open_sae(tmp_path / "sae").skip_alone(x, evaluation.sample.y) is x


@pytest.mark.parametrize("method", METHODS)
def test_a_transcoder_of_an_mlp_says_where_it_reads_and_writes(
    make_spec: MakeSpec, tmp_path: Path, method: str
) -> None:
    spec = make_spec("transcoder", hook="mlp_in", normalize_activations=method)
    state, plan, evaluation = make(spec)
    exported = export(state.sae, state.normalizer, plan, spec, tmp_path / "sae", {}, evaluation)
    assert exported.max_difference < 1e-5
    metadata = json.loads((tmp_path / "sae" / "cfg.json").read_text())["metadata"]
    assert metadata["hook_name"] == "blocks.1.mlp.hook_in"
    assert metadata["hook_name_out"] == "blocks.1.hook_mlp_out"
    found = open_sae(tmp_path / "sae")
    assert (found.reads, found.writes) == (Site(1, "mlp_in"), Site(1, "mlp_out"))


def test_an_export_that_differs_is_refused_and_not_put_in_place(
    make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec("standard")
    state, plan, evaluation = make(spec)

    def wrong(folder: Path, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        z_BF, y_hat = reconstruct(folder, x, y)
        return z_BF, y_hat * 1.001

    monkeypatch.setattr("workers.engine.export.reconstruct", wrong)
    with pytest.raises(ExportError, match="reconstructs differently"):
        export(state.sae, state.normalizer, plan, spec, tmp_path / "sae", {}, evaluation)
    assert not (tmp_path / "sae").exists()
