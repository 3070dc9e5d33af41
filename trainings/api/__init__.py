"""The REST API over trainings."""

from .training import router

__all__ = ["router"]
