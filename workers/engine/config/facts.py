"""What is known of an SAE beside its files, for the card that goes with them; no torch here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Facts:
    """What the SAE's folder does not say; what is empty is not known."""

    name: str
    architecture: str = ""
    model: str = ""
    model_on_hub: str = ""
    dataset: str = ""
    dataset_on_hub: str = ""
    licence: str = ""
    steps: int | None = None
    tokens: int | None = None
    context_length: int | None = None
    started_from: str = ""
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
