"""What a training is told: hyperparameters, the checks over them, and the file a run starts from.

This is the only part of the engine the web application imports; it needs pydantic and no torch.
"""

from .checks import check, plan, warnings
from .errors import problems
from .fields import FieldSpec, Section
from .hyperparameters import FIELDS, WITHOUT_RANGES, Architecture, Hyperparameters, sections
from .presets import PRESETS, Preset
from .problem import ConfigError, Problem
from .run import CacheSpec, RunSpec, StartSpec
from .starting_sae import StartingSae
from .training import (
    ModelFacts,
    Plan,
    TrainingConfig,
    places,
    settled_layers,
    settled_target,
)

__all__ = [
    "FIELDS",
    "PRESETS",
    "WITHOUT_RANGES",
    "Architecture",
    "CacheSpec",
    "ConfigError",
    "FieldSpec",
    "Hyperparameters",
    "ModelFacts",
    "Plan",
    "Preset",
    "Problem",
    "RunSpec",
    "Section",
    "StartSpec",
    "StartingSae",
    "TrainingConfig",
    "check",
    "places",
    "plan",
    "problems",
    "sections",
    "settled_layers",
    "settled_target",
    "warnings",
]
