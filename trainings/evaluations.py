"""What SAEs were found to be worth, and on which text: two figures compare only on the same one.

What was measured on an SAE's own text stands in its row, what on another in the job that did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import F

from .models import Sae, SaeJob, Tokenization


@dataclass(frozen=True)
class Measured:
    """One SAE on one text; `figures` are empty where nothing was measured on it.

    `job` is the evaluation that is under way.
    """

    sae: Sae
    text: Tokenization
    figures: Mapping[str, Any]
    job: SaeJob | None = None

    @property
    def whole(self) -> bool:
        """Whether the language model was run to its end, too."""
        return self.figures.get("ce_recovered") is not None

    @property
    def held_out(self) -> bool:
        """Whether it was surely not trained on these tokens; else nobody knows."""
        return self.sae.training is not None and self.text == self.sae.text


class Evaluations:
    """All that these SAEs were found to be worth, as they are now: an earlier step was another."""

    def __init__(self, saes: Sequence[Sae]) -> None:
        self.saes = saes
        jobs = SaeJob.objects.filter(
            sae__in=saes, kind=SaeJob.Kind.EVALUATE, step=F("sae__step")
        ).select_related("tokenization__dataset", "tokenization__model")
        self._done: dict[tuple[UUID, UUID], SaeJob] = {}
        self._under_way: dict[tuple[UUID, UUID], SaeJob] = {}
        for job in jobs.exclude(status=SaeJob.Status.FAILED):  # the newest first
            kept = self._under_way if job.under_way else self._done
            kept.setdefault((job.sae_id, job.tokenization_id), job)
        own = {sae.text.pk for sae in saes}
        self._texts = {job.tokenization_id: job.tokenization for job in self._done.values()}
        known = Tokenization.objects.select_related("dataset", "model")
        self._texts |= known.in_bulk(own - set(self._texts))

    def on(self, sae: Sae, text: Tokenization | None) -> Measured:
        """On this text; on the SAE's own where none is named."""
        text = text or self._texts[sae.text.pk]
        key = (sae.pk, text.pk)
        return Measured(sae, text, self._figures(sae, text.pk), self._under_way.get(key))

    def elsewhere(self, sae: Sae) -> list[SaeJob]:
        """The newest evaluation on each text other than its own."""
        found = (job for (pk, _), job in self._done.items() if pk == sae.pk)
        return [job for job in found if job.tokenization_id != sae.text.pk]

    def texts(self) -> list[tuple[Tokenization, int]]:
        """Each text on which any was measured, and how many were; the commonest first."""
        counts = Counter(
            pk for pk in self._texts for sae in self.saes if "fvu" in self._figures(sae, pk)
        )
        return [(self._texts[pk], n) for pk, n in counts.most_common()]

    @property
    def commonest(self) -> Tokenization | None:
        """The text on which most were measured; None where none was on any."""
        return next((text for text, _ in self.texts()), None)

    @property
    def shared(self) -> Tokenization | None:
        """The text that is each one's own; None where theirs differ."""
        own = {sae.text.pk for sae in self.saes}
        return self._texts[own.pop()] if len(own) == 1 else None

    def _figures(self, sae: Sae, text: UUID) -> Mapping[str, Any]:
        if text == sae.text.pk:
            own: Mapping[str, Any] = sae.evaluation
            return own
        job = self._done.get((sae.pk, text))
        return job.result if job else {}
