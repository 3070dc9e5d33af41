"""Makes what a training reads ready: fetches models, checks texts, tokenizes."""

from .prepare import Label, prepare

__all__ = ["Label", "prepare"]
