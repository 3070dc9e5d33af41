"""Which latents a text activates, as its page shows them."""

from __future__ import annotations

from dataclasses import dataclass

from trainings.models import SaeJob
from trainings.tokens import Token, shaded
from workers.engine.features import FeatureTable, Listed

MOST = 12


@dataclass(frozen=True)
class Strongest:
    """One latent on the text: what is known of it otherwise, and the text in its shades."""

    id: int
    maximum: float
    known: Listed | None
    tokens: list[Token]


@dataclass(frozen=True)
class TextRead:
    job: SaeJob
    latents: list[Strongest]

    @property
    def cut(self) -> bool:
        return bool(self.job.result.get("cut"))


def text_read(job: SaeJob, table: FeatureTable | None) -> TextRead:
    """Nothing yet while the job is under way."""
    found = job.result.get("latents", [])[:MOST]
    known = table.some(each["id"] for each in found) if table else {}
    tokens = job.result.get("tokens", [])
    return TextRead(
        job,
        [
            Strongest(
                each["id"],
                each["maximum"],
                known.get(each["id"]),
                shaded(tokens, each["values"], each["maximum"]),
            )
            for each in found
        ],
    )
