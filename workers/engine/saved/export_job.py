"""An SAE on the disk, written in a format, proved, and put in place whole or not at all."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from ..config.facts import Facts
from .card import Source, markdown
from .draft import drafted
from .folder import open_sae
from .formats import Format, place_of, write
from .proof import CARD, Proof, prove
from .sae import SavedSae
from .unit_norm import with_unit_rows

_SPARSITY = "sparsity.safetensors"


def export_saved(
    sae_path: Path,
    format: Format,
    out: Path,
    facts: Facts | None = None,
    source: Source | None = None,
    unit_norm: bool = False,
) -> dict[str, Any]:
    """Write `out`, with a model card where there are facts for one; what is in it and its proof.

    `source` is where the card says the SAE is loaded from; else the folder's name. `unit_norm`
    scales its latents so that rows of its decoder have norm 1. Raises
    `UnreadableSae`, `CannotExport`, `NotProved` and `OSError`; then nothing of it stays behind.
    """
    sae = open_sae(sae_path)
    if unit_norm:
        sae, facts = with_unit_rows(sae), facts and _without_scale(facts)
    # A folder that was deleted meanwhile stays deleted, so no parents of it are made.
    out.parent.mkdir(exist_ok=True)
    with drafted(out) as draft:
        place = write(sae, format, draft)
        _keep_frequencies(sae_path, place, format)
        proof = prove(draft, sae, format)
        if facts:
            write_card(draft, sae, format, proof, facts, source or Source(out.name))
    return {"format": format.value, "folder": str(out), **dataclasses.asdict(proof)}


def write_card(
    folder: Path, sae: SavedSae, format: Format, proof: Proof, facts: Facts, source: Source
) -> None:
    place = place_of(format, folder).relative_to(folder).as_posix()
    text = markdown(facts, sae, format, place, proof, source)
    (folder / CARD).write_text(text, encoding="utf-8")


def _without_scale(facts: Facts) -> Facts:
    """L1 is that of latents as they were."""
    kept = {name: value for name, value in facts.evaluation.items() if name != "l1"}
    return dataclasses.replace(facts, evaluation=kept)


def _keep_frequencies(sae_path: Path, place: Path, format: Format) -> None:
    """How often latents fire goes with the SAE, where the format has a file for it."""
    if format is not Format.SPARSIFY and (sae_path / _SPARSITY).is_file():
        shutil.copyfile(sae_path / _SPARSITY, place / _SPARSITY)
