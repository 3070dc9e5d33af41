"""Every preset is a training that can be started."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.engine.config import (
    FIELDS,
    PRESETS,
    Architecture,
    Hyperparameters,
    ModelFacts,
    Preset,
    TrainingConfig,
    check,
    warnings,
)

ROOT = Path(__file__).resolve().parents[2]
MODEL = ModelFacts(d_model=576, n_layers=30)


def of(preset: Preset) -> TrainingConfig:
    return TrainingConfig(
        architecture=preset.architecture,
        layer=5,
        hyperparameters=Hyperparameters(**preset.hyperparameters),
    )


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_a_preset_keeps_the_ranges_and_trains_what_it_means(preset: Preset) -> None:
    config = of(preset)
    assert check(config, MODEL) == []
    assert warnings(config, MODEL, None) == []
    for name in preset.hyperparameters:
        assert FIELDS[name].applies_to(preset.architecture), name


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_a_preset_says_only_what_differs_from_the_defaults(preset: Preset) -> None:
    assert of(preset).hyperparameters.changed() == dict(preset.hyperparameters)


def test_every_architecture_has_a_preset_and_so_has_topk() -> None:
    assert {preset.architecture for preset in PRESETS.values()} == set(Architecture)
    assert any("top_k_sparsity" in preset.hyperparameters for preset in PRESETS.values())


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_a_preset_tells_what_it_reached(preset: Preset) -> None:
    assert "FVU" in preset.sentence
    assert preset.sentence.endswith(".")
