"""What an SAE is worth, measured in its language model."""

from __future__ import annotations

from typing import Any

from trainings.management.sae_work import SaeCommand
from trainings.models import SaeJob
from trainings.scorecard import scorecard


class Command(SaeCommand):
    kind = SaeJob.Kind.EVALUATE
    help = (
        "Evaluate a training's SAE: reconstruction, sparsity, and what the language model loses "
        "with the reconstruction in its place. On the training's own text, the tokens were held "
        "out; whether another text (--on) shares documents with it nobody knows. Exit code: 0 "
        "done, 1 failed, 2 there is no such SAE. "
        "Example: manage.py evaluate smollm2-135m-l5-jumprelu-8x"
    )

    def facts(self, result: dict[str, Any]) -> str:
        lines = []
        for group in scorecard(result):
            lines.append(group.title)
            for each in group.shown:
                lines.append(f"  {each.entry.label:<32} {each.value:>12.6g}  {each.note}".rstrip())
        return "\n".join(lines)
