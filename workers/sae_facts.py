"""What a model card tells of a training's SAE: from its rows to the words of the card."""

from __future__ import annotations

from trainings.models import Dataset, LanguageModel, Sae

from .engine.config.facts import Facts


def facts_of(sae: Sae, licence: str = "") -> Facts:
    """Whatever is known of it; `licence` is the publisher's to choose."""
    run = sae.training
    model, dataset = run.model, run.dataset
    return Facts(
        name=run.name,
        architecture=run.config.architecture.label,
        model=model.known_as,
        model_on_hub=model.location if model.source == LanguageModel.Source.HUB else "",
        dataset=str(dataset),
        dataset_on_hub=dataset.location if dataset.source == Dataset.Source.HUB else "",
        licence=licence,
        steps=sae.step,
        tokens=sae.step * run.config.hyperparameters.batch_size,
        context_length=run.tokenization.context_length,
        hyperparameters=run.hyperparameters,
        evaluation=sae.evaluation,
    )
