"""What is left open is settled from the rest, and what makes no sense is refused by its field."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from workers.engine.config import (
    Architecture,
    ConfigError,
    Hyperparameters,
    ModelFacts,
    Plan,
    TrainingConfig,
    check,
    problems,
    warnings,
)
from workers.engine.sae import build

MODEL = ModelFacts(d_model=64, n_layers=4)


def config(architecture: str, **h: Any) -> TrainingConfig:
    return TrainingConfig(
        architecture=architecture, layer=1, hyperparameters=Hyperparameters.model_validate(h)
    )


@pytest.mark.parametrize(
    ("h", "k"),
    [
        ({"latent_dim": 2048}, 64),
        ({"latent_dim": 512}, 32),  # a sixteenth
        ({"latent_dim": 2048, "target_l0": 12.6}, 13),
        ({"latent_dim": 2048, "top_k_sparsity": 1.0}, 20),
        ({"latent_dim": 2048, "top_k_sparsity": 1.0, "target_l0": 50}, 20),
    ],
)
@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka"])
def test_k_over_a_batch_is_the_share_the_target_or_automatic(
    architecture: str, h: dict[str, Any], k: int
) -> None:
    plan = Plan.of(config(architecture, **h), MODEL)
    assert (plan.k, plan.top_k) == (k, None)
    told = [problem.field for problem in warnings(config(architecture, **h), MODEL, None)]
    assert ("target_l0" in told) is (len(h) == 3)


@pytest.mark.parametrize(("gpus", "tokens", "reading"), [(4, 65_536, 2), (8, 4096, 1)])
def test_a_chunk_that_feeds_fewer_gpus_than_there_are_is_told(
    gpus: int, tokens: int, reading: int
) -> None:
    split = config("standard", gpus=gpus, buffer_tokens=tokens)
    (told,) = warnings(split, MODEL, None)
    assert told.field == "buffer_tokens"
    assert f"{reading} of the {gpus} GPUs read" in told.message
    assert not warnings(config("standard", gpus=2, buffer_tokens=65_536), MODEL, None)
    assert not warnings(config("standard", gpus=1, buffer_tokens=4096), MODEL, None)


def test_topk_takes_the_place_of_other_activations_only_where_it_is_asked_for() -> None:
    assert Plan.of(config("standard", target_l0=9), MODEL).k is None
    plan = Plan.of(config("standard", top_k_sparsity=1.0), MODEL)
    assert (plan.k, plan.top_k) == (5, 5)


def test_latents_must_suffice_for_the_groups() -> None:
    small = ModelFacts(d_model=8, n_layers=4)
    fitting = config("matryoshka", latent_dim=16, matryoshka_groups=5)
    assert check(fitting, small) == []
    (problem,) = check(config("matryoshka", latent_dim=16, matryoshka_groups=6), small)
    assert (problem.field, problem.message[-17:]) == ("matryoshka_groups", "choose at most 5.")


def test_a_configuration_from_before_a_hyperparameter_keeps_its_digest() -> None:
    """Those of checkpoints that older versions wrote."""
    standard = TrainingConfig(architecture="standard", layer=3)
    jumprelu = config("jumprelu", target_l0=64, num_steps=5000).model_copy(update={"layer": 5})
    assert [c.digest() for c in (standard, jumprelu)] == [
        "81c15ef91b4558c0a8db2bba30cd402ffbad5bf5d93bad9d0c6cb3ca80cb01f8",
        "196121f44e557527a8dc0e985b300fea3d40835ec0c3ab10c4e79afea11d925e",
    ]


def test_a_later_hyperparameter_is_part_of_the_digest_where_it_is_set() -> None:
    usual = config("matryoshka")
    assert config("matryoshka", matryoshka_groups=5).digest() == usual.digest()
    assert config("matryoshka", matryoshka_groups=6).digest() != usual.digest()
    assert config("skip", skip="learned").digest() != config("skip").digest()
    assert config("skip", data_seed=0).digest() != config("skip").digest()


def test_checkpoints_belong_to_a_configuration_whatever_the_number_of_gpus() -> None:
    assert config("standard", gpus=4).digest() == config("standard").digest()


@pytest.mark.parametrize(
    ("architecture", "h", "writes"),
    [
        ("transcoder", {}, (2, "resid_post")),
        ("transcoder", {"hook": "mlp_in"}, (1, "mlp_out")),
        ("skip", {"hook": "mlp_in"}, (1, "mlp_out")),
        ("skip", {"hook": "mlp_in", "target": "mlp_out"}, (1, "mlp_out")),
        ("transcoder", {"hook": "mlp_in", "target": "next_layer"}, (2, "mlp_in")),
        ("transcoder", {"hook": "mlp_out"}, (2, "mlp_out")),
        ("standard", {"hook": "mlp_in"}, (1, "mlp_in")),
    ],
)
def test_an_mlps_input_is_for_its_output_where_nothing_else_is_said(
    architecture: str, h: dict[str, Any], writes: tuple[int, str]
) -> None:
    asked = config(architecture, **h)
    assert check(asked, MODEL) == []
    plan = Plan.of(asked, MODEL)
    assert (plan.target_layer, plan.target_hook) == writes
    assert plan.has_own_target is (architecture != "standard")


def test_the_last_layer_has_an_mlp_but_no_next_layer() -> None:
    last = config("transcoder", hook="mlp_in").model_copy(update={"layer": 3})
    assert check(last, MODEL) == []
    further = config("transcoder", hook="mlp_in", target="next_layer")
    (problem,) = check(further.model_copy(update={"layer": 3}), MODEL)
    assert problem.field == "layer"


@pytest.mark.parametrize(
    ("architecture", "h", "right"),
    [
        ("standard", {"hook": "mlp_in", "target": "mlp_out"}, "choose Transcoder or Skip"),
        ("transcoder", {"hook": "resid_post", "target": "mlp_out"}, "choose the hook mlp_in"),
        ("skip", {"hook": "mlp_out", "target": "mlp_out"}, "choose the hook mlp_in"),
        ("transcoder", {"hook": "mlp_in", "target": "same_layer"}, "choose the MLP's output"),
        ("transcoder", {"target": "same_layer"}, "choose the next layer, or Standard"),
    ],
)
def test_a_target_that_is_not_there_is_refused_with_what_would_be_right(
    architecture: str, h: dict[str, Any], right: str
) -> None:
    (problem,) = check(config(architecture, **h), MODEL)
    assert problem.field == "target"
    assert right in problem.message


def test_a_crosscoder_reads_the_layers_it_names_or_the_next() -> None:
    plan = Plan.of(config("crosscoder", layers=(1, 3)), MODEL)
    width = MODEL.d_model
    assert (plan.layers, plan.deepest_layer, plan.width) == ((1, 3), 3, width)
    assert (plan.d_in, plan.d_out, plan.d_sae) == (2 * width, 2 * width, 8 * width)
    assert not plan.has_own_target
    assert Plan.of(config("crosscoder"), MODEL).layers == (1, 2)
    assert Plan.of(config("standard"), MODEL).layers == (1,)


@pytest.mark.parametrize(
    ("architecture", "layer", "h", "field", "right"),
    [
        ("crosscoder", 1, {"layers": (1, 4)}, "layers", "layers 0 to 3; 4 is beyond"),
        ("crosscoder", 0, {"layers": (1, 3)}, "layers", "the layer must be the first of them"),
        ("crosscoder", 3, {}, "layer", "choose at most 2, or name the layers"),
        ("crosscoder", 9, {"layers": (9, 10)}, "layer", "9 is beyond"),
        ("crosscoder", 1, {"target": "next_layer"}, "target", "reconstructs what it reads"),
        ("standard", 1, {"layers": (1, 3)}, "layers", "choose Crosscoder"),
    ],
)
def test_layers_that_are_not_there_are_refused(
    architecture: str, layer: int, h: dict[str, Any], field: str, right: str
) -> None:
    asked = config(architecture, **h).model_copy(update={"layer": layer})
    (problem,) = check(asked, MODEL)
    assert problem.field == field
    assert right in problem.message


@pytest.mark.parametrize(
    ("layers", "right"),
    [
        ("3", "at least two"),
        ([5, 3], "ascending order: 3, 5"),
        ([3, 3], "once"),
        ([-1, 3], "counted from 0"),
        ("a, b", "as in 3, 5"),
        ([True, 2], "as in 3, 5"),
        (3, "as in 3, 5"),
    ],
)
def test_layers_that_are_no_list_of_blocks_are_named(layers: Any, right: str) -> None:
    with pytest.raises((ValidationError, ConfigError)) as caught:
        Hyperparameters(layers=layers)
    (problem,) = problems(caught.value)
    assert problem.field == "layers"
    assert right in problem.message


@pytest.mark.parametrize("layers", ["3, 5", "3,5", "[3, 5]", [3, 5], (3, 5), ["3", "5"]])
def test_layers_are_read_as_a_form_a_command_and_json_write_them(layers: Any) -> None:
    assert Hyperparameters(layers=layers).layers == (3, 5)


def test_gates_cannot_be_replaced_by_topk() -> None:
    (problem,) = check(config("gated", top_k_sparsity=1.0), MODEL)
    assert problem.field == "top_k_sparsity"
    assert "Gated" in problem.message
    assert check(config("gated", target_l0=20), MODEL) == []


@pytest.mark.parametrize("skip", ["identity", "learned"])
@pytest.mark.parametrize("architecture", list(Architecture))
def test_parameters_are_counted_as_they_are_made(architecture: Architecture, skip: str) -> None:
    plan = Plan.of(config(architecture, latent_dim=128, skip=skip), MODEL)
    weights = build(plan, torch.device("cpu")).weights
    assert plan.parameters == sum(value.numel() for value in weights.values())
