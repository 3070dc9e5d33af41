"""Whether trainings can share one stream of activations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from .asked import Asked
from .config import ConfigError, Problem, RunSpec
from .config.sharing import differing, reading
from .source import Formats


def check_specs(specs: Sequence[RunSpec]) -> None:
    """Raises `ConfigError` where they cannot be a group whatever they read."""
    found = list(_obstacles(specs))
    if found:
        raise ConfigError(found)


def check_reading(members: Sequence[tuple[RunSpec, Asked]]) -> None:
    """Raises `ConfigError` with every field in which they read, or order, their tokens otherwise
    than the first one."""
    found = differing([(spec.name, _reading(spec, asked)) for spec, asked in members])
    if found:
        raise ConfigError(found)


def check_formats(formats: Sequence[Formats]) -> None:
    """Raises `ConfigError` where checkpoints, made on other machines, have others."""
    if len(set(formats)) > 1:
        message = (
            "The checkpoints of these trainings were made from activations in different number "
            "formats, so they cannot share them; resume them one by one."
        )
        raise ConfigError([Problem("dtype", message)])


def _obstacles(specs: Sequence[RunSpec]) -> Iterator[Problem]:
    if not specs:
        yield Problem("members", "Name at least one run folder.")
    split = len(specs) > 1 and [spec.name for spec in specs if spec.ranks > 1]
    if split:
        yield Problem(
            "gpus", f"{split[0]} is split over several processes and cannot share; choose 1."
        )
    for training_id, count in Counter(spec.training_id for spec in specs).items():
        if count > 1:
            yield Problem("training_id", f"{training_id} is named {count} times; name it once.")


def _reading(spec: RunSpec, asked: Asked) -> dict[str, Any]:
    """All that a batch of the stream is a function of."""
    return {
        "model": str(spec.model_path),
        "tokens": str(spec.tokens_path),
        "device": str(asked.device),
        **reading(asked.plan),
    }
