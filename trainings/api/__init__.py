"""The REST API over trainings, what they read and what they leave."""

from .catalog import datasets, models, tokenizations
from .sae import router as saes
from .sae_compare import router as sae_comparisons
from .sae_job import router as sae_jobs
from .sweep import router as sweeps
from .training import router
from .worker import router as workers

__all__ = [
    "datasets",
    "models",
    "router",
    "sae_comparisons",
    "sae_jobs",
    "saes",
    "sweeps",
    "tokenizations",
    "workers",
]
