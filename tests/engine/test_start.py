"""A run that continues a saved SAE begins as that SAE, and needs it no longer than that."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.engine.conftest import LAYERS, WIDTH
from tests.engine.saes import an_sae, every_sae, named, no_tools, saelens_has, sparsify_has
from tests.engine.test_resume import RUNS, abandon_after, metrics
from workers.engine import events
from workers.engine.activations import Activations
from workers.engine.config import (
    Architecture,
    ConfigError,
    ModelFacts,
    Plan,
    RunSpec,
    StartingSae,
    StartSpec,
    TrainingConfig,
)
from workers.engine.export import folded
from workers.engine.failure import TrainingError
from workers.engine.language_model import Site
from workers.engine.saved import Kind, SavedSae, open_sae
from workers.engine.saved.continuing import CannotContinue, row_norms, starting
from workers.engine.saved.difference import difference
from workers.engine.saved.formats import Format, place_of, write
from workers.engine.saved.importing import import_saved
from workers.engine.saved.unit_norm import with_unit_rows
from workers.engine.start import Start
from workers.engine.state import State
from workers.engine.train import train

__all__ = ["no_tools"]
MakeSpec = Callable[..., RunSpec]
CPU, SOME = torch.device("cpu"), UUID(int=7)
MODEL = ModelFacts(d_model=WIDTH, n_layers=LAYERS)
ROUNDING = 2e-6
HAS = {Format.SAELENS: saelens_has, Format.SPARSIFY: sparsify_has, Format.SAFETENSORS: bool}
# sparsify's transcoders read what a module reads, and these read a block's output.
WRITTEN = [
    pytest.param(sae, format, id=f"{named(sae)}-{format}")
    for sae in every_sae()
    for format, has in HAS.items()
    if has(sae)
    and not (sae.is_transcoder and (sae.kind is Kind.JUMPRELU or format is Format.SPARSIFY))
]


def with_like_rows(sae: SavedSae) -> SavedSae:
    """Rows of one norm, which is not 1, where a TopK could not be continued otherwise."""
    if sae.kind is not Kind.TOPK:
        return sae
    return replace(sae, W_dec=3 * sae.W_dec / sae.W_dec.norm(dim=1, keepdim=True))


def activations(sae: SavedSae, seed: int = 1) -> Activations:
    """Raw ones of another size than 1, on which latents fire; the target has its own."""
    g = torch.Generator().manual_seed(seed)
    x = 2 * torch.randn(600, WIDTH, generator=g) + 0.5
    y = 5 * torch.randn(600, WIDTH, generator=g) if sae.is_transcoder else x
    return Activations(x, y, np.zeros(600, dtype=np.int64))


def planned(sae: SavedSae, **h: Any) -> Plan:
    return Plan.of(followed(starting(sae), **h), MODEL)


def followed(start: StartingSae, **h: Any) -> TrainingConfig:
    asked = {"architecture": start.architecture, "layer": start.layer, "hyperparameters": h}
    return start.followed_by(TrainingConfig.model_validate(asked), SOME)


def begun(folder: Path, plan: Plan, first: Activations) -> State:
    state = State.fresh(plan, CPU)
    state.settle(first, Start.read(StartSpec(name="theirs", folder=folder), plan).sae)
    return state


def unlike(state: State, sae: SavedSae, some: Activations) -> float:
    """By how much the run's reconstruction differs, of the largest value. Raises if it does.

    Its latents are as many times larger as its directions are shorter.
    """
    normalized = state.normalizer(some.x, some.y)
    z, y_hat = state.sae.reconstruct(normalized.x)
    z = z / (row_norms(sae.W_dec) * state.normalizer.scale_out).float()
    return difference(sae.reconstruct(some.x, some.y), (z, normalized.restore(y_hat)))


@pytest.mark.parametrize(("sae", "format"), WRITTEN)
def test_a_run_begins_as_the_sae_of_another_tool(
    sae: SavedSae, format: Format, tmp_path: Path
) -> None:
    sae = with_like_rows(sae)
    write(sae, format, tmp_path)
    place = place_of(format, tmp_path)
    first = activations(sae)
    for h in ({},) if sae.per_token else ({}, {"normalize_activations": "none"}):
        state = begun(place, planned(open_sae(place), **h), first)
        assert unlike(state, sae, first) < ROUNDING
    if not sae.per_token:
        norms = state.sae.weights["W_dec"].norm(dim=1)
        torch.testing.assert_close(norms, torch.ones_like(norms))


@pytest.mark.parametrize("name", [name for name in RUNS if not Architecture(RUNS[name][0]).spans])
def test_a_run_begins_as_the_sae_of_another_run(
    make_spec: MakeSpec, tmp_path: Path, name: str
) -> None:
    architecture, own = RUNS[name]
    spec = make_spec(architecture, **(own | {"num_steps": 24}))
    list(train(spec, tmp_path))
    sae, first = open_sae(tmp_path / "sae"), activations(open_sae(tmp_path / "sae"))
    trained = StartingSae.trained(spec.config, MODEL)
    assert starting(sae) == trained
    state = begun(tmp_path / "sae", Plan.of(followed(trained), MODEL), first)
    assert unlike(state, sae, first) < ROUNDING
    assert state.sae.activation.penalty is None or float(state.penalty.coefficient(1)) > 0


def test_rows_of_zeros_stay_and_negative_thresholds_are_no_more_than_zero(tmp_path: Path) -> None:
    sae = an_sae(Kind.JUMPRELU)
    assert sae.threshold is not None
    sae.threshold[3], sae.W_dec[5] = -0.5, 0
    write(sae, Format.SAELENS, tmp_path)
    state, first = begun(tmp_path, planned(sae), activations(sae)), activations(sae)
    assert float(state.sae.weights["threshold"][3]) == 0
    assert state.sae.weights["W_dec"][5].abs().sum() == 0
    assert unlike(state, sae, first) < ROUNDING


def test_what_it_gives_back_is_the_same_sae_with_unit_rows(tmp_path: Path) -> None:
    sae = an_sae(Kind.JUMPRELU)
    write(sae, Format.SAELENS, tmp_path)
    state = begun(tmp_path, planned(sae, normalize_activations="none"), activations(sae))
    unit = with_unit_rows(sae)
    for name, value in folded(state.sae, state.normalizer).items():
        torch.testing.assert_close(value, getattr(unit, name), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("sae", "reason"),
    [
        (an_sae(Kind.TOPK), "different norms"),
        (an_sae(Kind.JUMPRELU, "transcoder"), "a transcoder with JumpReLU"),
        (
            replace(an_sae(Kind.RELU), across=(Site(0, "resid_post"), Site(1, "resid_post"))),
            "A crosscoder cannot be continued",
        ),
        (replace(an_sae(Kind.RELU), reads=None, writes=None), "does not say which layer"),
        (
            replace(an_sae(Kind.RELU), writes=replace(an_sae(Kind.RELU).reads, layer=3)),  # type: ignore[type-var]
            "writes blocks.3.hook_resid_post",
        ),
    ],
)
def test_what_no_architecture_here_can_be_is_refused(sae: SavedSae, reason: str) -> None:
    with pytest.raises(CannotContinue, match=reason):
        starting(sae)


def test_an_import_says_how_it_is_continued_or_why_not(
    model_folder: Path, tmp_path: Path, no_tools: None
) -> None:
    write(an_sae(Kind.JUMPRELU), Format.SAELENS, tmp_path / "one")
    found = import_saved(tmp_path / "one", tmp_path / "a", model_folder)
    assert StartingSae.model_validate(found["start"]) == starting(open_sae(tmp_path / "a"))
    write(an_sae(Kind.TOPK), Format.SAELENS, tmp_path / "two")
    found = import_saved(tmp_path / "two", tmp_path / "b", model_folder)
    assert found["start"] is None
    assert "different norms" in found["no_start"]


def test_what_contradicts_the_sae_is_named() -> None:
    start = starting(an_sae(Kind.JUMPRELU))
    wrong = {
        "hook": "mlp_out",
        "latent_dim": 64,
        "top_k_sparsity": 1.0,
        "jumprelu_threshold": 0.1,
        "normalize_activations": "layer_norm",
        "target": "next_layer",
    }
    asked = {"architecture": "standard", "layer": 2, "hyperparameters": wrong}
    with pytest.raises(ConfigError) as caught:
        start.followed_by(TrainingConfig.model_validate(asked), SOME)
    assert {p.field for p in caught.value.problems} == {*wrong, "architecture", "layer"}


def test_what_is_not_asked_for_is_the_saes_own() -> None:
    topk = starting(with_like_rows(an_sae(Kind.TOPK)))
    assert Plan.of(followed(topk), MODEL).k == 8
    assert Plan.of(followed(topk, top_k_sparsity=5.0), MODEL).k == 5
    h = followed(starting(an_sae(Kind.RELU, "skip"))).hyperparameters
    assert (h.skip, h.target, h.latent_dim, h.hook) == ("learned", "next_layer", 96, "resid_post")
    batch = replace(an_sae(Kind.JUMPRELU), threshold=torch.full((96,), 0.3))
    told = {"trained_as": "matryoshka", "hyperparameters": {"target_l0": 5, "matryoshka_groups": 3}}
    start = starting(
        replace(
            batch,
            W_dec=batch.W_dec / batch.W_dec.norm(dim=1, keepdim=True),
            metadata=told,
        )
    )
    plan = Plan.of(followed(start), MODEL)
    assert (plan.k, plan.hyperparameters.matryoshka_groups) == (5, 3)
    assert Plan.of(followed(start, target_l0=9), MODEL).k == 9


def test_a_start_is_part_of_a_digest() -> None:
    config = TrainingConfig(architecture="standard", layer=1)
    one, two = (config.model_copy(update={"start_from": UUID(int=n)}) for n in (1, 2))
    assert len({each.digest() for each in (config, one, two)}) == 3


def test_the_controller_goes_on_where_the_sae_is(make_spec: MakeSpec, tmp_path: Path) -> None:
    """From random weights L0 would start at half of all latents, and the penalty at nothing."""
    h = {"target_l0": 12, "num_steps": 300, "log_interval": 5}
    before = make_spec("jumprelu", **h)
    first = [e for e in train(before, tmp_path / "first") if isinstance(e, events.Progress)]
    spec = continuing(before, tmp_path / "first" / "sae")
    second = [e for e in train(spec, tmp_path / "second") if isinstance(e, events.Progress)]
    assert all(6 < point.l0 < 24 for point in second)
    assert all(point.fvu < 2 * first[-1].fvu for point in second)
    begun, ended = second[0].coefficient, first[-1].coefficient
    assert begun is not None
    assert ended is not None
    assert ended / 10 < begun < ended * 10


def continuing(spec: RunSpec, folder: Path, digest: str = "", **h: Any) -> RunSpec:
    """A run like `spec` that continues what it left."""
    start = StartingSae.trained(spec.config, MODEL)
    hyperparameters = spec.config.hyperparameters.model_copy(update=h)
    config = spec.config.model_copy(update={"hyperparameters": hyperparameters})
    started_from = StartSpec(name="the first", folder=folder, digest=digest)
    return spec.model_copy(
        update={"config": start.followed_by(config, SOME), "start_from": started_from}
    )


@pytest.mark.parametrize(
    "name", ["jumprelu", "batchtopk with dead latents", "learned skip with resampling"]
)
def test_a_resumed_one_needs_no_sae_and_is_never_interrupted(
    make_spec: MakeSpec, tmp_path: Path, name: str
) -> None:
    architecture, own = RUNS[name]
    h = own | {"checkpoint_interval": 9, "log_interval": 5, "dead_window_tokens": 1024}
    before = make_spec(architecture, **(h | {"num_steps": 12}))
    list(train(before, tmp_path / "first"))
    spec = continuing(before, tmp_path / "first" / "sae", num_steps=30)
    whole = list(train(spec, tmp_path / "whole"))
    (digest,) = [e.start_digest for e in whole if isinstance(e, events.Started)]
    assert digest
    abandon_after(20, spec, tmp_path / "cut")
    shutil.rmtree(tmp_path / "first")

    newest = tmp_path / "cut" / "checkpoints" / "step-000018"
    later = continuing(before, tmp_path / "first" / "sae", digest, num_steps=30)
    again = list(train(later.model_copy(update={"resume_from": (newest,)}), tmp_path / "again"))
    (started,) = [e for e in again if isinstance(e, events.Started)]
    assert (started.resumed_from, started.start_digest) == (18, digest)
    final = "checkpoints/step-000030/tensors.safetensors"
    expected, found = (load_file(tmp_path / r / final) for r in ("whole", "again"))
    for key, value in expected.items():
        assert torch.equal(found[key], value), key
    assert metrics(again) == metrics(whole)[-len(metrics(again)) :]
    told = open_sae(tmp_path / "again" / "sae").metadata["started_from"]
    assert told == {"name": "the first", "sha256": digest}


def test_a_checkpoint_that_began_with_another_sae_is_not_used(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    before = make_spec("standard", num_steps=10)
    list(train(before, tmp_path / "first"))
    spec = continuing(before, tmp_path / "first" / "sae")
    list(train(spec, tmp_path / "second"))
    resume = {"resume_from": (tmp_path / "second" / "checkpoints" / "step-000010",)}
    other = continuing(before, tmp_path / "first" / "sae", "0" * 64).model_copy(update=resume)
    with pytest.raises(TrainingError, match="the first, which this training started from, is anot"):
        list(train(other, tmp_path / "third"))


def test_a_sae_that_is_gone_or_another_is_told(make_spec: MakeSpec, tmp_path: Path) -> None:
    before = make_spec("standard", num_steps=10)
    with pytest.raises(TrainingError, match="the first, which this training starts from, is not t"):
        list(train(continuing(before, tmp_path / "none"), tmp_path / "second"))
    write(an_sae(Kind.RELU), Format.SAELENS, tmp_path / "narrow")
    with pytest.raises(TrainingError, match="widths differ"):
        list(train(continuing(before, tmp_path / "narrow"), tmp_path / "second"))
    write(an_sae(Kind.TOPK), Format.SAELENS, tmp_path / "topk")
    with pytest.raises(TrainingError, match="cannot be continued"):
        list(train(continuing(before, tmp_path / "topk"), tmp_path / "second"))
