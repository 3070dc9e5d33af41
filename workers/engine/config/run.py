"""`run.json`: what one attempt of one training needs."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from .hyperparameters import WITHOUT_RANGES
from .training import TrainingConfig


class CacheSpec(BaseModel):
    """Where activations are kept for later runs, and the bytes they may take there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path
    limit_bytes: int


class StartSpec(BaseModel):
    """The SAE whose weights are the first ones: what it is called, and its folder.

    `digest` is that of its files (`workers.engine.start`), once a run has read them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    folder: Path
    digest: str = ""


class RunSpec(BaseModel):
    """`run.json` in a run folder: all that one attempt needs; paths are absolute.

    `resume_from` lists checkpoint folders, newest first; the first that verifies is taken. Without
    a `cache` every activation is computed. `start_from` is read only where no checkpoint is.
    The run is split over so many `ranks`, processes of this machine with a GPU each where there are
    any; a checkpoint knows nothing of their number.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    training_id: str
    name: str
    attempt: int = 1
    config: TrainingConfig
    model_path: Path
    model_name: str
    tokens_path: Path
    dataset_name: str = ""
    resume_from: tuple[Path, ...] = ()
    device: str = "auto"
    cache: CacheSpec | None = None
    start_from: StartSpec | None = None
    ranks: int = Field(default=1, ge=1)

    @classmethod
    def read(cls, run_dir: Path) -> RunSpec:
        """Ranges were checked at the door where the run was asked for, not again here."""
        text = (run_dir / "run.json").read_text(encoding="utf-8")
        return cls.model_validate_json(text, context=dict(WITHOUT_RANGES))

    def write(self, run_dir: Path) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "run.json").write_text(self.model_dump_json(indent=1), encoding="utf-8")
