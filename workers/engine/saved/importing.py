"""Somebody else's SAE taken in: read, checked against its model, and written as one of ours."""

from __future__ import annotations

import shutil
from dataclasses import replace as replaced
from pathlib import Path
from typing import Any

from ..config.sae_job import Place
from ..failure import TrainingError
from ..language_model import Site
from ..model import ModelFolder, inspect
from .continuing import CannotContinue, starting
from .draft import drafted
from .folder import open_sae
from .formats import write_for_saelens
from .proof import prove
from .sae import SavedSae

_SPARSITY = "sparsity.safetensors"


def import_saved(
    source: Path, out: Path, model_folder: Path, place: Place | None = None
) -> dict[str, Any]:
    """Write `out` from a folder of SAELens's, sparsify's or our own format; facts about it.

    `place` says where it reads and writes where its folder does not, or says so wrongly. Raises
    `UnreadableSae`, `TrainingError` where it does not fit the model, `NotProved` and `OSError`;
    nothing of it stays behind then.
    """
    sae, model = _placed(open_sae(source), place), inspect(model_folder)
    _check(sae, model)
    with drafted(out) as draft:
        format, why_plain = write_for_saelens(sae, draft)
        if (source / _SPARSITY).is_file():
            shutil.copyfile(source / _SPARSITY, draft / _SPARSITY)
        proof = prove(draft, sae, format)
    return {
        **facts(sae),
        "format": format.value,
        "why_plain": why_plain,
        "max_difference": proof.max_difference,
        "read_by": proof.read_by,
        "digest": proof.digest,
    }


def facts(sae: SavedSae) -> dict[str, Any]:
    """What a page says of it without reading its weights, and how a training continues it."""
    assert sae.reads is not None
    assert sae.writes is not None
    kind = {"relu": "ReLU", "jumprelu": "JumpReLU", "topk": f"TopK {sae.k}"}[sae.kind.value]
    skip = "skip transcoder" if sae.W_skip is not None else "transcoder"
    moves = sae.is_transcoder or sae.W_skip is not None
    layers = {"layers": [site.layer for site in sae.across]} if sae.across else {}
    what = "crosscoder" if sae.across else skip if moves else ""
    return {
        "architecture": f"{kind} {what}".strip(),
        **layers,
        "layer": sae.reads.layer,
        "hook": sae.reads.hook,
        "target_layer": sae.writes.layer,
        "target_hook": sae.writes.hook,
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        **_continuing(sae),
    }


def _continuing(sae: SavedSae) -> dict[str, Any]:
    """`start`, or the reason why there is none."""
    try:
        return {"start": starting(sae).model_dump(mode="json"), "no_start": ""}
    except CannotContinue as error:
        return {"start": None, "no_start": str(error)}


def _placed(sae: SavedSae, place: Place | None) -> SavedSae:
    if place is None:
        return sae
    if sae.across:
        raise TrainingError(
            "A crosscoder's folder says itself which layers it reads; name no layer and no hook."
        )
    reads = Site(place.layer, place.hook)
    writes = sae.writes if sae.is_transcoder and sae.writes else reads
    return replaced(sae, reads=reads, writes=writes)


def _check(sae: SavedSae, model: ModelFolder) -> None:
    if sae.reads is None or sae.writes is None:
        raise TrainingError(
            "The SAE's folder does not say where in the model it reads; name the layer and hook."
        )
    if sae.width != model.d_model:
        raise TrainingError(
            f"The SAE reads activations of width {sae.width}, and this model's are "
            f"{model.d_model} wide: it belongs to another model."
        )
    deepest = max(site.layer for site in (sae.reads, sae.writes, *sae.across))
    if deepest >= model.n_layers:
        raise TrainingError(
            f"The SAE belongs to layer {deepest}, and this model has {model.n_layers} layers, "
            "counted from 0."
        )
