"""`job.json`: what is to be done with an SAE that lies on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from .hyperparameters import Hook

# The name of the table that a features job makes beside the SAE's folder.
FEATURES_FILE = "features.sqlite"
SaeJobKind = Literal["evaluate", "features", "probe", "export", "import"]
# Formats in which an SAE can be written; `workers.engine.saved.formats.Format` has the same.
FORMATS = ("saelens", "sparsify", "safetensors")


HOOKS: tuple[Hook, ...] = get_args(Hook)


class Place(BaseModel):
    """Where in the model an SAE reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    layer: int = Field(ge=0)
    hook: Hook = "resid_post"


class SaeJobSpec(BaseModel):
    """All that one job needs; paths are absolute.

    An SAE is evaluated on the contexts that a training on this text holds out, `held_out_tokens` of
    them at most; of the text that it was trained on these are contexts it never saw. On
    `splice_tokens` of them (None: as many as the device does in about a minute) the model is run to
    its end. The features' examples come from `feature_tokens` of the same text. A probe reads
    `text`. An export writes `out` in `format`, with a model card of `facts` (`facts.Facts`). An
    import takes `sae_path` into `out`, at `place` where its folder does not say.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: SaeJobKind
    sae_path: Path
    model_path: Path
    tokens_path: Path
    held_out_tokens: int = Field(default=32_768, ge=1)
    splice_tokens: int | None = Field(default=None, ge=1)
    feature_tokens: int = Field(default=262_144, ge=1)
    text: str = ""
    text_name: str = ""
    format: str = ""
    out: Path | None = None
    facts: dict[str, Any] = Field(default_factory=dict)
    place: Place | None = None
    device: str = "auto"

    @classmethod
    def read(cls, folder: Path) -> SaeJobSpec:
        return cls.model_validate_json((folder / "job.json").read_text(encoding="utf-8"))

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "job.json").write_text(self.model_dump_json(indent=1), encoding="utf-8")
