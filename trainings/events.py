"""What comes over the WebSocket, as schemas: `python -m trainings.events > docs/events.json`.

A key that is named here stays; others may come beside it.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Step = Annotated[int, Field(ge=0, description="Optimizer steps done.")]
Number = float | None


class Data(BaseModel):
    model_config = ConfigDict(extra="allow")


class Point(Data):
    """One logged point; what was not finite is null."""

    step: Step
    loss: Number
    l0: Number
    l1: Number
    reconstruction_loss: Number
    fvu: Number
    dead_neurons: int | None


class ProgressData(Data):
    """The newest point, and all `points` logged since the message before."""

    step: Step
    loss: Number
    l0: Number
    fvu: Number
    progress_pct: Annotated[float, Field(ge=0, le=100)]
    points: list[Point]


class CheckpointData(Data):
    """A checkpoint lies on the disk and was read back."""

    checkpoint_path: str
    step: Step
    bytes: int
    sha256: str


class CompletedData(Data):
    sae_path: str
    final_loss: Number


class FailedData(Data):
    """`error` is one sentence for the researcher."""

    error: str
    step: Step


class StoppedData(Data):
    """`sae_path` is null where there were no weights yet."""

    step: Step
    sae_path: str | None


class StartedData(Data):
    """Model and data are ready; `resumed_from` is a step, or null for a start from step 0."""

    step: Step
    num_steps: int
    resumed_from: int | None


class PhaseData(Data):
    """Loading the model, normalizing, training, evaluating, exporting, standing still."""

    phase: str


class ResampledData(Data):
    step: Step
    count: int


class WarningData(Data):
    code: str
    message: str


class SetAsideData(Data):
    """A checkpoint did not verify; the run goes on from an older one."""

    checkpoint_path: str
    moved_to: str | None
    reason: str


class Envelope(BaseModel):
    """One message. `seq` rises by one from event to event of a run: a gap means one was missed."""

    model_config = ConfigDict(extra="forbid")

    training_id: UUID
    seq: Annotated[int, Field(ge=1)]


class Progress(Envelope):
    event: Literal["progress"]
    data: ProgressData


class Checkpoint(Envelope):
    event: Literal["checkpoint"]
    data: CheckpointData


class Completed(Envelope):
    event: Literal["completed"]
    data: CompletedData


class Failed(Envelope):
    event: Literal["failed"]
    data: FailedData


class Stopped(Envelope):
    event: Literal["stopped"]
    data: StoppedData


class Started(Envelope):
    event: Literal["started"]
    data: StartedData


class Phase(Envelope):
    event: Literal["phase"]
    data: PhaseData


class Resampled(Envelope):
    event: Literal["resampled"]
    data: ResampledData


class Warned(Envelope):
    event: Literal["warning"]
    data: WarningData


class SetAside(Envelope):
    event: Literal["checkpoint_set_aside"]
    data: SetAsideData


class Changed(Envelope):
    """The run's state is another one (claimed, queued again, deleted): ask the API for it."""

    event: Literal["status"]
    data: Data


Event = Annotated[
    Progress
    | Checkpoint
    | Completed
    | Failed
    | Stopped
    | Started
    | Phase
    | Resampled
    | Warned
    | SetAside
    | Changed,
    Field(discriminator="event"),
]


def schema() -> dict[str, Any]:
    """JSON Schema of one message."""
    found = TypeAdapter(Event).json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "An event of SAE Studio's WebSocket",
        **found,
    }


if __name__ == "__main__":
    print(json.dumps(schema(), indent=1))  # noqa: T201
