"""What commands do with an SAE: write it in a format, and say why it cannot be.

The engine is imported when it is needed: listing commands must not load PyTorch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from trainings.models import Sae
from workers.engine.config.sae_job import FORMATS


def add_options(parser: CommandParser, default: str) -> None:
    parser.add_argument("--format", choices=FORMATS, help=f"Whose format; {default}.")
    parser.add_argument(
        "--license", default="", help="For the model card, as the hub names it: apache-2.0, mit."
    )
    parser.add_argument(
        "--unit-norm",
        action="store_true",
        help="Scale latents so that rows of the decoder have norm 1, as SAEBench wants them.",
    )


def exported(
    sae: Sae,
    format: str,
    out: Path,
    licence: str | None,
    folder: str,
    repository: str = "",
    unit_norm: bool = False,
) -> dict[str, Any]:
    """`workers.engine.saved.export_job.export_saved`; with a card unless the licence is None.

    `folder`, of a repository if one is named, is where the card loads it from. Raises
    `CommandError`, and `OSError`.
    """
    from workers.engine.saved import CannotExport, UnreadableSae
    from workers.engine.saved.card import Source
    from workers.engine.saved.export_job import export_saved
    from workers.engine.saved.formats import Format
    from workers.engine.saved.proof import NotProved
    from workers.sae_facts import facts_of

    facts = None if licence is None else facts_of(sae, licence)
    source = Source(folder, repository)
    try:
        return export_saved(Path(sae.path), Format(format), out, facts, source, unit_norm)
    except CannotExport as error:
        raise CommandError(str(error), returncode=2) from error
    except (UnreadableSae, NotProved) as error:
        raise CommandError(str(error)) from error


def proof_line(told: dict[str, Any]) -> str:
    return (
        f"read by {told['read_by']}: differs by at most {told['max_difference']:.1e} of the "
        "largest value"
    )
