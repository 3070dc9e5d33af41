"""What goes in and out over the API; the names are the product's contract (docs/api.md)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from ninja import Schema, Status
from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    WithJsonSchema,
    field_validator,
)

from trainings.models import Training, tag
from trainings.models.tag import unwritable
from trainings.models.training import MAX_NOTES
from trainings.models.transitions import PRIORITIES
from trainings.needs import Needs
from trainings.sweeps import MOST
from trainings.wishes import Action
from workers.engine.config import Architecture, Hyperparameters


def example(**values: Any) -> ConfigDict:
    """Configuration of a schema that shows what a call looks like."""
    return ConfigDict(json_schema_extra={"examples": [values]})


SOME_ID = "0b0e4a5e-6f0c-4b7e-9a86-0d1f0a6f4c11"


def _writable(text: str) -> str:
    if reason := unwritable(text):
        raise ValueError(reason)
    return text


Text = Annotated[str, AfterValidator(_writable)]
Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=255),
    AfterValidator(_writable),
]
Priority = Annotated[int, Field(strict=True, ge=PRIORITIES[0], le=PRIORITIES[1])]


_SCHEMA_WORDS = (
    "type",
    "anyOf",
    "items",
    "enum",
    "description",
    "default",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
)


def _documented() -> dict[str, Any]:
    """The hyperparameters' schema, without what only a form needs; units are in their words."""
    properties = {}
    for name, facts in Hyperparameters.model_json_schema()["properties"].items():
        properties[name] = {key: facts[key] for key in _SCHEMA_WORDS if key in facts}
        if facts.get("unit"):
            properties[name]["description"] += f" In {facts['unit']}."
    return {"type": "object", "properties": properties, "additionalProperties": False}


# Judged by the engine, whose answers name each field; the schema says what it will judge by.
Given = Annotated[dict[str, Any], WithJsonSchema(_documented())]


class OriginOut(Schema):
    """The SAE that a training continues, as it was then; it may be gone since."""

    id: UUID
    name: str
    step: int


class TrainingOut(Schema):
    id: UUID
    name: str
    model_id: UUID
    dataset_id: UUID
    tokenization_id: UUID
    layer: int
    architecture: str
    hyperparameters: dict[str, Any]
    status: str
    shown_status: str
    priority: int
    needs: Needs
    current_step: int
    progress: float
    final_loss: float | None
    sae_path: str | None
    error_message: str | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    attempt: int
    interruptions: int
    phase: str
    event_seq: int
    latest: dict[str, Any]
    run_facts: dict[str, Any]
    run_warnings: list[dict[str, Any]]
    notes: str
    tags: list[str]
    owner: str | None
    started_from: OriginOut | None
    sweep_id: UUID | None

    @staticmethod
    def resolve_started_from(training: Training) -> dict[str, Any] | None:
        return training.origin or None

    @staticmethod
    def resolve_owner(training: Training) -> str | None:
        return training.owner.get_username() if training.owner else None

    @staticmethod
    def resolve_tags(training: Training) -> list[str]:
        return training.tag_names


class EstimateIn(Schema):
    """docs/hyperparameters.md says what each hyperparameter is; those left out take defaults.

    `start_from`: id of an SAE of the same model, whose weights are the first ones. Layer,
    architecture and what else follows from it may then be left out.
    """

    model_config = example(
        tokenization_id=SOME_ID,
        layer=5,
        architecture="jumprelu",
        hyperparameters={"num_steps": 100_000, "target_l0": 64},
    )

    tokenization_id: UUID
    layer: Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)] | None = None
    architecture: Architecture | None = None
    hyperparameters: Given = Field(default_factory=dict)
    start_from: UUID | None = None


class TrainingIn(EstimateIn):
    model_config = example(
        name="smollm2-135m-l5-jumprelu",
        tokenization_id=SOME_ID,
        layer=5,
        architecture="jumprelu",
        hyperparameters={"num_steps": 100_000, "target_l0": 64},
    )

    name: Name
    priority: Priority = 0
    needs: Needs = Needs()


# Each is judged where the hyperparameters are; of more values than trainings there may be none is.
Values = Annotated[list[Any], Field(max_length=MOST)]
Own = Annotated[dict[str, Any], Field(max_length=MOST)]


class SweepMore(Schema):
    """`grid`: values by name, of which every combination is made; `members`: one training each.

    A name is that of a hyperparameter, or `architecture`.
    """

    model_config = example(grid={"l1_alpha": [0.001, 0.002], "seed": [1, 2]})

    grid: Annotated[dict[str, Values], Field(max_length=MOST)] = Field(default_factory=dict)
    members: Annotated[list[Own], Field(max_length=MOST)] = Field(default_factory=list)


class SweepIn(TrainingIn, SweepMore):
    """Trainings that differ in what `grid` and `members` name, and share one stream of activations.

    Everything else is as of one training.
    """

    model_config = example(
        name="smollm2-135m-l5-alphas",
        tokenization_id=SOME_ID,
        layer=5,
        architecture="standard",
        hyperparameters={"num_steps": 100_000},
        grid={"l1_alpha": [0.001, 0.002], "seed": [1, 2]},
        members=[{"architecture": "jumprelu", "target_l0": 64}],
    )


class MemberOut(Schema):
    """One training of a sweep: what is its own, and how far it is.

    `l0` and `fvu` are those on held-out tokens once it has ended, else as last logged; of those
    that are `on_front` no other beats both.
    """

    id: UUID
    name: str
    own: dict[str, Any]
    status: str
    shown_status: str
    step: int
    num_steps: int
    l0: float | None
    fvu: float | None
    on_front: bool


class SweepRow(Schema):
    """`asked`: what it was made of, as it was read. `statuses`: how many trainings have each."""

    id: UUID
    name: str
    owner: str | None
    created_at: datetime
    asked: dict[str, Any]
    statuses: dict[str, int]
    progress: float


class SweepOut(SweepRow):
    trainings: list[MemberOut]


class SweepPage(Schema):
    items: list[SweepRow]
    count: int


class WarningOut(Schema):
    field: str
    message: str


class EstimateOut(Schema):
    """`seconds` comes from runs that were measured on the same model; null where there are none.

    `memory_bytes`: weights and optimizer, without activations and the language model.
    """

    tokens_needed: int
    tokens_available: int
    passes: float
    parameters: int
    memory_bytes: int
    n_checkpoints: int
    seconds: float | None
    measured_runs: int
    warnings: list[WarningOut]


class TrainingChange(Schema):
    """What is left out stays as it is; `tags` replaces all of them."""

    model_config = example(notes="Dead latents rise after step 40,000.", tags=["sweep 3"])

    name: Name | None = None
    priority: Priority | None = None
    notes: Annotated[Text, Field(max_length=MAX_NOTES)] | None = None
    tags: list[Text] | None = None

    @field_validator("tags")
    @classmethod
    def _tidy(cls, names: list[str] | None) -> list[str] | None:
        if names is None:
            return None
        # A comma would part a tag in two on the page.
        found = tag.split(",".join(names))
        if wrong := tag.problem(found):
            raise ValueError(wrong)
        return found


class RetryIn(Schema):
    model_config = example(from_scratch=True)

    from_scratch: StrictBool = False


class BulkIn(Schema):
    model_config = example(action="retry", ids=[SOME_ID], from_scratch=False)

    action: Action
    ids: list[UUID] = Field(min_length=1, max_length=500)
    from_scratch: StrictBool = False


class BulkItem(Schema):
    id: UUID
    done: bool
    message: str


class BulkOut(Schema):
    items: list[BulkItem]
    done: int


class QueueItem(Schema):
    id: UUID
    ahead: int


class MetricOut(Schema):
    step: int
    loss: float | None
    l0: float | None
    l1: float | None
    reconstruction_loss: float | None
    fvu: float | None
    dead_neurons: int | None
    tokens_seen: int | None
    tokens_per_second: float | None
    created_at: datetime


class CheckpointOut(Schema):
    id: UUID
    step: int
    attempt: int
    path: str
    size_bytes: int
    sha256: str
    fvu: float | None
    pinned: bool
    set_aside: str
    created_at: datetime


class CheckpointIn(Schema):
    model_config = example(pinned=True)

    pinned: StrictBool


class TrainingPage(Schema):
    items: list[TrainingOut]
    count: int


class ErrorItem(Schema):
    field: str
    message: str


class Errors(Schema):
    """Every refusal has this shape."""

    errors: list[ErrorItem]


def refused(status: int, field: str, message: str) -> Status[Any]:
    return Status(status, {"errors": [{"field": field, "message": message}]})
