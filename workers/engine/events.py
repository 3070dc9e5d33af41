"""What a run tells the world while it runs: one frozen record per event, one JSON line each."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar


@dataclass(frozen=True, kw_only=True)
class Event:
    """Anything a run reports. `step` counts finished optimizer steps."""

    name: ClassVar[str]
    step: int

    def to_dict(self) -> dict[str, Any]:
        return {"event": self.name, **finite(asdict(self))}

    def to_json(self, training_id: str | None = None) -> str:
        """One line of strict JSON; numbers that are not finite become null.

        `training_id` says whose event it is, where several tell theirs.
        """
        whose = {} if training_id is None else {"training_id": training_id}
        return json.dumps(self.to_dict() | whose, allow_nan=False, separators=(",", ":"))


@dataclass(frozen=True, kw_only=True)
class Phase(Event):
    """The run turns to something else: loading_model, normalizing, training, ..."""

    name: ClassVar[str] = "phase"
    phase: str


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """Model and data are ready; `tokens` are those available for training.

    The model computes in `dtype`, its activations are held in `held_dtype`. Of what the run is to
    read, `cached_fraction` lay in the cache at its start; null where the run has no cache.
    `memory_bytes` is what the process is reckoned to hold at its largest (`preflight.py`).
    `start_digest` is of the SAE that it continues (`start.py`); null where it began at random.
    """

    name: ClassVar[str] = "started"
    num_steps: int
    resumed_from: int | None
    d_in: int
    d_sae: int
    k: int | None
    device: str
    dtype: str
    held_dtype: str
    cached_fraction: float | None
    tokens: int
    dead_window_tokens: int
    memory_bytes: int
    start_digest: str | None


@dataclass(frozen=True, kw_only=True)
class Progress(Event):
    """Metrics over the logging window that ends at `step`; definitions in `metrics.py`."""

    name: ClassVar[str] = "progress"
    loss: float
    l0: float
    l1: float
    reconstruction_loss: float
    fvu: float
    fvu_skip: float | None
    fvu_latents: float | None
    dead_neurons: int
    dead_window_tokens: int
    progress_pct: float
    tokens_seen: int
    tokens_per_second: float
    extraction_seconds: float
    sae_seconds: float
    learning_rate: float
    coefficient: float | None
    contexts_per_batch: float


@dataclass(frozen=True, kw_only=True)
class Density(Event):
    """How many latents fire how often, over the last `tokens`; see `density_histogram`."""

    name: ClassVar[str] = "density"
    tokens: int
    density: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class CheckpointSaved(Event):
    """A checkpoint of `step` lies on disk and verifies; `sha256` is that of its manifest.

    `seconds` went into writing it beside the training, `stalled_seconds` the training waited.
    `fvu` is that of the last logged point.
    """

    name: ClassVar[str] = "checkpoint"
    checkpoint_path: str
    bytes: int
    sha256: str
    seconds: float
    stalled_seconds: float
    fvu: float | None


@dataclass(frozen=True, kw_only=True)
class CheckpointSetAside(Event):
    """A checkpoint did not verify; it was renamed to `moved_to`, or its folder is gone."""

    name: ClassVar[str] = "checkpoint_set_aside"
    checkpoint_path: str
    moved_to: str | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Resampled(Event):
    """Dead latents were started anew."""

    name: ClassVar[str] = "resampled"
    count: int


@dataclass(frozen=True, kw_only=True)
class Warned(Event):
    """Something a researcher should know; the run goes on."""

    name: ClassVar[str] = "warning"
    code: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Ended(Event):
    """What a run leaves behind; both ways of ending carry the same keys."""

    sae_path: str | None
    final_loss: float | None
    evaluation: dict[str, Any] | None
    export: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Completed(Ended):
    name: ClassVar[str] = "completed"


@dataclass(frozen=True, kw_only=True)
class Stopped(Ended):
    """Stopped on request; everything is null where the SAE had no weights yet."""

    name: ClassVar[str] = "stopped"


@dataclass(frozen=True, kw_only=True)
class Paused(Event):
    """Put aside for another process to go on from the newest checkpoint; nothing was exported."""

    name: ClassVar[str] = "paused"


@dataclass(frozen=True, kw_only=True)
class Failed(Event):
    """The run ended early; `error` is one sentence for the researcher."""

    name: ClassVar[str] = "failed"
    error: str


def in_words(event: dict[str, Any]) -> tuple[str, str] | None:
    """How serious an event is, as logs say it, and a sentence; None for points and beats."""
    step = f"{event.get('step') or 0:,}"
    match event["event"]:
        case "phase":
            return "INFO", event["phase"].replace("_", " ").capitalize()
        case "started" if event.get("resumed_from") is not None:
            return "INFO", f"Goes on from step {step}"
        case "started":
            return "INFO", "Starts from step 0"
        case "checkpoint":
            return "INFO", f"Checkpoint at step {step}"
        case "checkpoint_set_aside":
            name = Path(event["checkpoint_path"]).name
            return "WARNING", f"{name} was not used: {event['reason']}"
        case "resampled":
            return "INFO", f"Step {step}: {event['count']:,} latents resampled"
        case "warning":
            return "WARNING", str(event["message"])
        case "completed" | "stopped" | "paused":
            return "INFO", f"{event['event'].capitalize()} at step {step}"
        case "failed" | "interrupted":
            return "ERROR", str(event["error"])
    return None


def finite(value: Any) -> Any:
    """The value with null for every number JSON has no word for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
