"""What a model card tells of a training's SAE: from its rows to the words of the card."""

from __future__ import annotations

from typing import Any

from trainings.models import Dataset, LanguageModel, Sae, Training

from .engine.config.facts import Facts


def facts_of(sae: Sae, licence: str = "") -> Facts:
    """Whatever is known of it; `licence` is the publisher's to choose."""
    model = sae.language_model
    common: dict[str, Any] = {
        "name": sae.name,
        "architecture": sae.architecture,
        "model": model.known_as,
        "model_on_hub": model.location if model.source == LanguageModel.Source.HUB else "",
        "licence": licence,
        "evaluation": sae.evaluation,
    }
    return Facts(**common, **(_of_training(sae.training, sae.step) if sae.training else {}))


def _of_training(run: Training, step: int) -> dict[str, Any]:
    """What is known of how it was trained, if it was trained here."""
    dataset = run.dataset
    return {
        "dataset": str(dataset),
        "dataset_on_hub": dataset.location if dataset.source == Dataset.Source.HUB else "",
        "steps": step,
        "tokens": step * run.config.hyperparameters.batch_size,
        "context_length": run.tokenization.context_length,
        "hyperparameters": run.hyperparameters,
        "started_from": run.origin.get("name", ""),
    }
