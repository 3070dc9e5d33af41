"""The density histogram over a training, as numbers that the page draws."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_safe

from trainings.models import Training


@require_safe
def film(request: HttpRequest, training_id: UUID) -> JsonResponse:
    """`frames` by step; bin i of `counts` begins at 10^(start + i * width) of the tokens."""
    training = get_object_or_404(Training.objects.visible(), pk=training_id)
    frames = list(training.densities.values("step", "tokens", "density"))
    shape = frames[-1]["density"] if frames else {"start": 0, "width": 1}
    return JsonResponse(
        {
            "start": shape["start"],
            "width": shape["width"],
            "frames": [
                {
                    "step": frame["step"],
                    "tokens": frame["tokens"],
                    "never": frame["density"]["never"],
                    "counts": frame["density"]["counts"],
                }
                for frame in frames
            ],
        }
    )
