"""What a saved SAE is worth, on tokens it was never trained on: metrics and splicing."""

from .evaluation import evaluate_saved

__all__ = ["evaluate_saved"]
