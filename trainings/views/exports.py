"""In which formats an SAE lies on the disk, and the proof that each is the SAE that was trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainings import store
from trainings.models import Sae, SaeJob
from workers.engine.config.sae_job import FORMATS

_LABELS = {
    "saelens": ("SAELens", "sae-lens, SAEBench, Neuronpedia's tools"),
    "sparsify": ("sparsify", "EleutherAI's eai-sparsify; TopK only"),
    "safetensors": ("Plain safetensors", "any tool; the equations stand in cfg.json"),
}


@dataclass(frozen=True)
class Export:
    """One format: the newest job that wrote it, or tried to."""

    sae: Sae
    format: str
    job: SaeJob | None

    @property
    def label(self) -> str:
        return _LABELS[self.format][0]

    @property
    def read_by(self) -> str:
        """Who reads it."""
        return _LABELS[self.format][1]

    @property
    def proof(self) -> dict[str, Any] | None:
        """What was found when it was read back, if its files are still there."""
        done = self.job and self.job.status == SaeJob.Status.DONE
        # With a store, a job is done once its files are there, whichever host looks.
        there = store.on() or self.sae.export_path(self.format).is_dir()
        return self.job.result if self.job and done and there else None

    @property
    def folder(self) -> str:
        return str(self.sae.export_path(self.format))

    @property
    def files(self) -> list[tuple[str, int]]:
        proof = self.proof or {}
        files = [(name, file["bytes"]) for name, file in proof.get("files", {}).items()]
        return [*files, ("README.md", 0)] if files else []


def exports(sae: Sae) -> list[Export]:
    newest: dict[str, SaeJob] = {}
    for job in sae.jobs.filter(kind=SaeJob.Kind.EXPORT)[:50]:
        newest.setdefault(job.format, job)
    formats = ("safetensors",) if sae.spans else FORMATS
    return [Export(sae, format, newest.get(format)) for format in formats]
