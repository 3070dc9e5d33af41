"""What a training will need, as far as it is known before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainings.models import Tokenization, Training
from workers.engine.config import Plan, TrainingConfig

FLOAT32_BYTES = 4
# Weights and Adam's two moments; what a checkpoint holds too.
COPIES = 3
RECENT_RUNS = 3


@dataclass(frozen=True)
class Estimate:
    """Sizes follow from the configuration; time only from runs that were measured."""

    tokens_needed: int
    tokens_available: int
    parameters: int
    n_checkpoints: int
    seconds: float | None
    measured_runs: int

    @property
    def memory_bytes(self) -> int:
        """Of weights and optimizer, without activations and the language model."""
        return self.parameters * FLOAT32_BYTES * COPIES

    @property
    def passes(self) -> float:
        return self.tokens_needed / self.tokens_available if self.tokens_available else 0.0


def estimate(config: TrainingConfig, source: Tokenization) -> Estimate | None:
    """None while the model's width is not known."""
    return estimate_together([config], source)


def estimate_together(configs: Sequence[TrainingConfig], source: Tokenization) -> Estimate | None:
    """Of trainings that share one stream: it is read once, and each has steps of its own."""
    if source.model.facts is None:
        return None
    plans = [Plan.of(config, source.model.facts) for config in configs]
    tokens = max(plan.total_tokens for plan in plans)
    # As if that many trained on every token.
    together = sum(plan.total_tokens for plan in plans) / tokens
    speeds = _measured_speeds(source, len(plans[0].layers) * together)
    settings = [plan.hyperparameters for plan in plans]
    return Estimate(
        tokens_needed=tokens,
        tokens_available=source.n_tokens or 0,
        parameters=sum(plan.parameters for plan in plans),
        n_checkpoints=sum(h.num_steps // h.checkpoint_interval for h in settings),
        seconds=tokens * len(speeds) / sum(speeds) if speeds else None,
        measured_runs=len(speeds),
    )


def _measured_speeds(source: Tokenization, layers: float) -> list[float]:
    """Tokens per second of the newest finished runs on the same model, as of so many layers.

    A layer of another training that shares the stream counts like one more of the same.
    """
    runs = Training.objects.filter(model=source.model, status="completed")
    newest = runs.order_by("-completed_at")[:RECENT_RUNS]
    return [speed for run in newest if (speed := _speed(run, layers))]


def _speed(run: Training, layers: float) -> float:
    """A forward pass reads any number of layers; a step takes as much longer as there are more.

    How much of a token's time was its step's is known where the pass was measured by itself.
    """
    speed: float = run.latest.get("tokens_per_second") or 0.0
    passes: float = run.latest.get("extraction_tokens_per_second") or 0.0
    if not speed or layers == len(run.layers):
        return speed
    reading = min(1 / passes, 1 / speed) if passes else 0.0
    return 1 / (reading + (1 / speed - reading) * layers / len(run.layers))
