"""What a training will need, as far as it is known before it runs."""

from __future__ import annotations

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
    if source.model.facts is None:
        return None
    plan = Plan.of(config, source.model.facts)
    speeds = _measured_speeds(source, len(plan.layers))
    return Estimate(
        tokens_needed=plan.total_tokens,
        tokens_available=source.n_tokens or 0,
        parameters=plan.parameters,
        n_checkpoints=plan.hyperparameters.num_steps // plan.hyperparameters.checkpoint_interval,
        seconds=plan.total_tokens * len(speeds) / sum(speeds) if speeds else None,
        measured_runs=len(speeds),
    )


def _measured_speeds(source: Tokenization, layers: int) -> list[float]:
    """Tokens per second of the newest finished runs on the same model, as of so many layers."""
    runs = Training.objects.filter(model=source.model, status="completed")
    newest = runs.order_by("-completed_at")[:RECENT_RUNS]
    return [speed for run in newest if (speed := _speed(run, layers))]


def _speed(run: Training, layers: int) -> float:
    """A forward pass reads any number of layers; a step takes as much longer as there are more.

    How much of a token's time was its step's is known where the pass was measured by itself.
    """
    speed: float = run.latest.get("tokens_per_second") or 0.0
    passes: float = run.latest.get("extraction_tokens_per_second") or 0.0
    if not speed or layers == len(run.layers):
        return speed
    reading = min(1 / passes, 1 / speed) if passes else 0.0
    return 1 / (reading + (1 / speed - reading) * layers / len(run.layers))
