"""What a training is asked for on a command line, as the engine's own types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from django.core.management.base import CommandError, CommandParser
from pydantic import ValidationError

from trainings.continuing import settled
from trainings.models import Dataset, LanguageModel, Sae, Tokenization
from workers.engine.config import (
    FIELDS,
    PRESETS,
    Architecture,
    ConfigError,
    Hyperparameters,
    Problem,
    TrainingConfig,
    problems,
)

from . import naming


def add_what_to_train(parser: CommandParser) -> None:
    """The options that say it, whatever is then done with it."""
    parser.add_argument("--model", help="Name or id of a ready model.")
    parser.add_argument("--dataset", help="Name or id of a ready dataset.")
    parser.add_argument("--tokenization", help="Id; needed where several fit.")
    parser.add_argument("--context-length", type=int, help="Chooses among tokenizations.")
    parser.add_argument(
        "--layer",
        type=int,
        help="Decoder block, from 0; of a crosscoder the first of its layers.",
    )
    parser.add_argument(
        "--architecture",
        choices=list(Architecture),
        help=f"Default: the preset's, or {Architecture.STANDARD}.",
    )
    parser.add_argument(
        "--from",
        metavar="SAE",
        help="Continue this SAE: id, or name of its training or import. Layer, architecture "
        "and width are its own; the text, too, unless another one is named.",
    )
    parser.add_argument(
        "--preset",
        choices=list(PRESETS),
        help="A recipe to start from; docs/hyperparameters.md says what each has reached.",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="A hyperparameter, as often as needed; it wins over the preset's. "
        "docs/hyperparameters.md lists them.",
    )


def config_of(options: dict[str, Any], tokenization: Tokenization) -> TrainingConfig:
    """Raises `ConfigError`, or `CommandError` as `base_of` does."""
    base, sae = base_of(options)
    return settled(base, tokenization, sae)


def base_of(options: dict[str, Any]) -> tuple[dict[str, Any], Sae | None]:
    """What `settled` takes, and the SAE it continues.

    Raises `ConfigError`, or `CommandError` where preset and architecture disagree.
    """
    preset = PRESETS.get(options["preset"])
    asked = options["architecture"]
    if preset and asked and asked != preset.architecture:
        raise CommandError(
            f"The preset {preset.name} is for {preset.architecture}; leave --architecture out.",
            returncode=2,
        )
    sae = naming.sae(options["from"]) if options["from"] else None
    if sae is None and options["layer"] is None:
        raise CommandError("Name a --layer, or an SAE to continue with --from.", returncode=2)
    usual = None if sae else Architecture.STANDARD
    h = hyperparameters(options["set"], preset.hyperparameters if preset else {})
    base = {
        "architecture": preset.architecture if preset else asked or usual,
        "layer": options["layer"],
        "hyperparameters": h.model_dump(exclude_unset=True),
    }
    return base, sae


def grid(varied: list[str]) -> dict[str, list[Any]]:
    """`NAME=VALUE,VALUE` as values by name; `null` means automatic. Raises `ConfigError`."""
    found: dict[str, list[Any]] = {}
    for each in varied:
        name, equals, values = each.partition("=")
        if not equals or name in found:
            why = "is there twice" if name in found else "has no values"
            raise ConfigError([Problem(name, f"It {why}; write --vary {name}=VALUE,VALUE.")])
        texts = [text.strip() for text in values.split(",") if text.strip()]
        found[name] = [None if _is_automatic(name, text) else text for text in texts]
    return found


@contextmanager
def naming_fields() -> Iterator[None]:
    """End the command with a line for every field that is wrong."""
    try:
        yield
    except (ValidationError, ConfigError) as error:
        lines = [f"{problem.field}: {problem.message}" for problem in problems(error)]
        raise CommandError("\n".join(lines), returncode=2) from error


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


def _is_automatic(name: str, value: str) -> bool:
    return name in FIELDS and _means_automatic(name, value)


def _means_automatic(name: str, value: str) -> bool:
    """`none` is also a way to normalize, and there it means itself."""
    return FIELDS[name].optional and value.strip().lower() in ("", "null", "none")


def _unknown(name: str) -> str:
    near = get_close_matches(name, FIELDS, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"There is no such hyperparameter.{hint}"
