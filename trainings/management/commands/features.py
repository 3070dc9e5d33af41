"""What the latents of an SAE mean, collected into one file."""

from __future__ import annotations

from typing import Any

from trainings.management.sae_work import SaeCommand
from trainings.models import SaeJob


class Command(SaeCommand):
    kind = SaeJob.Kind.FEATURES
    help = (
        "Find for every latent of a training's SAE where it fires most, which tokens it promotes "
        "and which latents are like it. Exit code: 0 done, 1 failed, 2 there is no such SAE. "
        "Example: manage.py features smollm2-135m-l5-jumprelu-8x"
    )

    def facts(self, result: dict[str, Any]) -> str:
        return (
            f"{result['latents_alive']:,} of {result['latents']:,} latents fired on "
            f"{result['tokens']:,} tokens; features.sqlite lies beside the SAE's folder."
        )
