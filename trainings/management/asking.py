"""What a training is asked for on a command line, as the engine's own types."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from django.core.management.base import CommandError
from pydantic import ValidationError

from trainings.models import Dataset, LanguageModel, Tokenization
from workers.engine.config import FIELDS, ConfigError, Hyperparameters, Problem, problems

from . import naming


def hyperparameters(
    settings: list[str], preset: Mapping[str, Any] = MappingProxyType({})
) -> Hyperparameters:
    """`NAME=VALUE` pairs, over those of a preset, through the schema; `null` means automatic.

    Raises `ConfigError` with everything that is wrong.
    """
    values: dict[str, Any] = dict(preset)
    found: list[Problem] = []
    for setting in settings:
        name, equals, value = setting.partition("=")
        if name not in FIELDS:
            found.append(Problem(name, _unknown(name)))
        elif not equals:
            found.append(Problem(name, f"Write {name}=VALUE."))
        else:
            values[name] = None if _means_automatic(name, value) else value
    try:
        settled = Hyperparameters.model_validate(values)
    except ValidationError as error:
        raise ConfigError([*found, *problems(error)]) from error
    if found:
        raise ConfigError(found)
    return settled


def chosen_tokenization(options: dict[str, Any]) -> Tokenization:
    """The one that fits model, dataset and context length; else that of the SAE it continues.

    Raises `CommandError`.
    """
    if options["tokenization"]:
        found = naming.tokenization(options["tokenization"])
        naming.ready(found)
        return found
    if options.get("from") and not (options["model"] or options["dataset"]):
        return naming.sae(options["from"]).text
    if not options["model"] or not options["dataset"]:
        raise CommandError("Name --model and --dataset, or --tokenization.", returncode=2)
    model = naming.named(LanguageModel, options["model"])
    dataset = naming.named(Dataset, options["dataset"])
    fitting = Tokenization.objects.ready().filter(model=model, dataset=dataset)
    if options["context_length"]:
        fitting = fitting.filter(context_length=options["context_length"])
    return _only(list(fitting.select_related("model", "dataset")), model, dataset)


def _only(found: list[Tokenization], model: LanguageModel, dataset: Dataset) -> Tokenization:
    if len(found) == 1:
        return found[0]
    if not found:
        raise CommandError(
            f"{dataset} is not tokenized for {model} (at this context length); make it so with "
            f"manage.py tokenize --model {model.name!r} --dataset {dataset.name!r}",
            returncode=2,
        )
    lines = [f"  {t.pk}  contexts of {t.context_length}, BOS {t.bos}" for t in found]
    raise CommandError(
        "Several tokenizations fit; name one with --tokenization:\n" + "\n".join(lines),
        returncode=2,
    )


def _means_automatic(name: str, value: str) -> bool:
    """`none` is also a way to normalize, and there it means itself."""
    return FIELDS[name].optional and value.strip().lower() in ("", "null", "none")


def _unknown(name: str) -> str:
    near = get_close_matches(name, FIELDS, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"There is no such hyperparameter.{hint}"
