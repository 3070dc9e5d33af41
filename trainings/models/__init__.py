"""What a training is made of: catalog, run, metrics, checkpoints, result."""

from .catalog import Dataset, LanguageModel, Tokenization
from .checkpoint import Checkpoint
from .metric import METRIC_FIELDS, TrainingMetric
from .sae import Sae
from .training import Training

__all__ = [
    "METRIC_FIELDS",
    "Checkpoint",
    "Dataset",
    "LanguageModel",
    "Sae",
    "Tokenization",
    "Training",
    "TrainingMetric",
]
