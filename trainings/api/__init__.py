"""The REST API over trainings, what they read and what they leave."""

from .catalog import datasets, models, tokenizations
from .sae import router as saes
from .training import router

__all__ = ["datasets", "models", "router", "saes", "tokenizations"]
