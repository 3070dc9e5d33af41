"""What a training is made of: catalog, rehearsal, run, metrics, checkpoints, result."""

from .catalog import Dataset, LanguageModel, Tokenization
from .checkpoint import Checkpoint
from .density import TrainingDensity
from .metric import METRIC_FIELDS, TrainingMetric
from .rehearsal import Rehearsal
from .release import Release
from .sae import Sae
from .sae_job import SaeJob
from .sweep import Sweep
from .tag import Tag
from .training import Training
from .worker import Worker

__all__ = [
    "METRIC_FIELDS",
    "Checkpoint",
    "Dataset",
    "LanguageModel",
    "Rehearsal",
    "Release",
    "Sae",
    "SaeJob",
    "Sweep",
    "Tag",
    "Tokenization",
    "Training",
    "TrainingDensity",
    "TrainingMetric",
    "Worker",
]
