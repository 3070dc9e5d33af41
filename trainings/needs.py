"""What a training needs of the worker that runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from workers.gpus import Gpu

GB = 10**9


class Needs(BaseModel):
    """Nothing by default: any worker will do. One GPU is meant where only its kind is named."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gpu_count: int = Field(0, ge=0, le=64, description="GPUs that the worker has at least.")
    gpu_class: str = Field(
        "", max_length=100, description="Part of the GPUs' name, as H100; upper and lower alike."
    )
    gpu_memory_gb: float = Field(
        0.0,
        ge=0,
        le=10_000,
        allow_inf_nan=False,
        description="Memory of each GPU, at least, in GB.",
    )

    @field_validator("gpu_class")
    @classmethod
    def _writable(cls, text: str) -> str:
        if "\x00" in text:  # no database keeps them in JSON
            raise ValueError("It must not hold null characters.")
        return text

    @classmethod
    def of(cls, needs: dict[str, Any], gpus: int | None) -> Needs:
        """Of a training that is split over so many GPUs, what its row says and those."""
        asked = cls(**needs)
        if not gpus or gpus == 1:
            return asked
        return asked.model_copy(update={"gpu_count": max(gpus, asked.gpu_count)})

    def __str__(self) -> str:
        """As in `2 GPUs of class H100 with 60 GB each`; empty where any worker will do."""
        if not self._count:
            return ""
        words = ["a GPU" if self._count == 1 else f"{self._count} GPUs"]
        if self.gpu_class:
            words.append(f"of class {self.gpu_class}")
        if self.gpu_memory_gb:
            each = "" if self._count == 1 else " each"
            words.append(f"with {self.gpu_memory_gb:g} GB{each}")
        return " ".join(words)

    def met_by(self, gpus: Sequence[Gpu]) -> bool:
        """Whether a worker with these GPUs will do."""
        fitting = [gpu for gpu in gpus if self._fits(gpu)]
        return len(fitting) >= self._count

    @property
    def _count(self) -> int:
        return max(self.gpu_count, 1 if self.gpu_class or self.gpu_memory_gb else 0)

    def _fits(self, gpu: Gpu) -> bool:
        of_class = self.gpu_class.casefold() in gpu["name"].casefold()
        return of_class and gpu["memory_total"] >= self.gpu_memory_gb * GB
