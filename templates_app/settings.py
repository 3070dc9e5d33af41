"""What a template may hold, whichever door it comes through: page, API or file."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from trainings.models.tag import unwritable
from workers.engine.config import ConfigError, Hyperparameters, Problem, TrainingConfig, problems

MOST_NAME, MOST_DESCRIPTION = 255, 4000


def settled(architecture: str, hyperparameters: Any) -> dict[str, Any]:
    """All hyperparameters, those left out at their defaults; an empty architecture means any.

    Raises `ConfigError` with every field that is wrong.
    """
    if not isinstance(hyperparameters, dict):
        raise ConfigError([Problem("hyperparameters", "Write an object of names and values.")])
    try:
        if architecture:
            config = TrainingConfig.model_validate(
                {"architecture": architecture, "layer": 0, "hyperparameters": hyperparameters}
            )
            return config.hyperparameters.model_dump(mode="json")
        return Hyperparameters.model_validate(hyperparameters).model_dump(mode="json")
    except (ValidationError, ConfigError) as error:
        raise ConfigError(problems(error)) from error


def named(name: Any, description: Any) -> list[Problem]:
    """What is wrong with the words of a template."""
    found = []
    if not isinstance(name, str) or not name.strip():
        found.append(Problem("name", "Give it a name."))
    elif len(name.strip()) > MOST_NAME:
        found.append(Problem("name", f"At most {MOST_NAME} characters."))
    if not isinstance(description, str):
        found.append(Problem("description", "Write text."))
    elif len(description) > MOST_DESCRIPTION:
        found.append(Problem("description", f"At most {MOST_DESCRIPTION:,} characters."))
    for field, text in (("name", name), ("description", description)):
        if isinstance(text, str) and (reason := unwritable(text)):
            found.append(Problem(field, reason))
    return found
