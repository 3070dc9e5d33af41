"""Trainings that go on from a saved SAE: which one, and what of their settings follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from workers.engine.config import (
    ConfigError,
    Problem,
    StartingSae,
    TrainingConfig,
    problems,
)
from workers.engine.config.starting_sae import NO_CROSSCODER

from .models import Sae, Tokenization

# What a training's own settings say of its beginning, which is another one here.
_OF_ITS_BEGINNING = ("jumprelu_threshold", "sparsity_warmup_steps")


def settled(
    asked: Mapping[str, Any], source: Tokenization, sae: Sae | None = None
) -> TrainingConfig:
    """What is asked for, checked: `architecture`, `layer` and `hyperparameters`, by name.

    Of one that continues an SAE, what follows from the SAE may be left out. Raises `ConfigError`
    with every field that is wrong.
    """
    given = {name: value for name, value in asked.items() if value is not None}
    try:
        if sae is None:
            return TrainingConfig.model_validate(given)
        start = starting(sae, source)
        own = {"architecture": start.architecture, "layer": start.layer}
        return start.followed_by(TrainingConfig.model_validate(own | given), sae.pk)
    except ValidationError as error:
        raise ConfigError(problems(error)) from error


def starting(sae: Sae, source: Tokenization | None = None) -> StartingSae:
    """How a training that continues it, on this text, is set up. Raises `ConfigError`."""
    if source and source.model != sae.language_model:
        raise _refused(f"{sae.name} is an SAE of {sae.language_model}; choose a text of that.")
    if run := sae.training:
        if run.model.facts is None:
            raise _refused(f"{run.model} is not ready.")
        if run.config.architecture.spans:
            raise _refused(NO_CROSSCODER)
        return StartingSae.trained(run.config, run.model.facts)
    if not sae.ready:
        raise _refused(f"{sae.name} has not been imported yet.")
    if sae.facts.get("start"):
        return StartingSae.model_validate(sae.facts["start"])
    reason = sae.facts.get("no_start", "It was imported by an earlier version; import it again.")
    raise _refused(f"{sae.name} cannot be continued. {reason}")


def own_settings(sae: Sae) -> dict[str, Any]:
    """Hyperparameters it was trained with, but for what follows from it anyway and K."""
    start = starting(sae)
    found = dict(sae.training.hyperparameters) if sae.training else {}
    for name in (*start.fixed, *start.unused, *_OF_ITS_BEGINNING, "top_k_sparsity"):
        found.pop(name, None)
    if start.architecture.over_batch:
        found.pop("target_l0", None)
    return found


def _refused(message: str) -> ConfigError:
    return ConfigError([Problem("start_from", message)])
