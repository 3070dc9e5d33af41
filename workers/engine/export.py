"""The trained SAE as a folder that SAELens loads, or a plain one where SAELens has no such thing.

Normalization is folded into the weights, so that the folder works on raw activations. The folder
is read back and compared before the run may end.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import crash
from .activations import Activations
from .checkpoint import replace, write_tensors
from .config import Plan, RunSpec
from .evaluate import Evaluation
from .language_model import Site
from .normalize import Normalizer, factor
from .sae import Sae, Weights
from .saved import Kind, SavedSae, open_sae
from .saved.difference import DifferentSae, difference
from .saved.formats import write_for_saelens

SPARSITY = "sparsity.safetensors"


class ExportError(Exception):
    """The SAE that was written is not the one that was trained; the message is a sentence."""


@dataclass(frozen=True)
class Exported:
    """`max_difference` is between trained and read-back reconstructions, relative to the largest
    value of the reconstruction; `why_plain` says why the format is not SAELens's, if so."""

    path: Path
    format: str
    max_difference: float
    why_plain: str


def export(
    sae: Sae,
    normalizer: Normalizer,
    plan: Plan,
    spec: RunSpec,
    out: Path,
    metadata: dict[str, Any],
    evaluation: Evaluation,
) -> Exported:
    """Write `out`, whole or not at all, and read it back.

    Raises `ExportError` if it differs, `OSError` where it cannot be written; then nothing of it
    stays behind.
    """
    temporary = out.with_name(out.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        told = _metadata(plan, spec) | metadata
        _, why_plain = write_for_saelens(_saved(sae, normalizer, plan, told), temporary)
        log_frequency_F = evaluation.frequency_F.clamp_min(1e-10).log10()
        write_tensors(temporary / SPARSITY, {"sparsity": log_frequency_F})
        difference = _compare(temporary, sae, normalizer, evaluation.sample)
        crash.point("export.written")
        replace(temporary, out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    crash.point("export.renamed")
    name = "safetensors" if why_plain else "saelens"
    return Exported(out, name, difference, why_plain)


def folded(sae: Sae, normalizer: Normalizer) -> Weights:
    """Weights that take and give raw activations, in SAELens's orientation: W_enc [D, F]."""
    w, read = sae.weights, sae.activation.inference(sae.weights)
    b_dec = w["b_dec"].double()
    s_in, s_out = (factor(s, b_dec) for s in (normalizer.scale_in, normalizer.scale_out))
    # One matrix in float64 at a time: this must not take more memory than training did.
    weights = {
        "W_enc": read["W_enc"].to(torch.float64, copy=True).mul_(s_in).float().T,
        "b_enc": read["b_enc"],
        "W_dec": w["W_dec"].to(torch.float64, copy=True).div_(s_out).float(),
        "b_dec": b_dec / s_out,
    }
    if "threshold" in read:
        weights["threshold"] = read["threshold"]
    if sae.has_skip:
        identity = torch.eye(len(w["b_dec"]), dtype=torch.float64, device=w["b_dec"].device)
        weights["W_skip"] = w.get("W_skip", identity).double() * (s_in / s_out)
    # Copies: tensors of one file must not share memory.
    return {name: value.float().contiguous().clone() for name, value in weights.items()}


def reconstruct(folder: Path, x_BD: Tensor, y_BO: Tensor) -> tuple[Tensor, Tensor]:
    """Latents and reconstruction of raw activations by an exported folder, as its cfg.json says.

    By what reads the folders of other tools too, and shares no equation with the training: this
    is what the export is compared with.
    """
    return open_sae(folder).to(x_BD.device).reconstruct(x_BD, y_BO)


def _compare(folder: Path, sae: Sae, normalizer: Normalizer, sample: Activations) -> float:
    normalized = normalizer(sample.x, sample.y)
    z_BF, y_hat_BO = sae.reconstruct(normalized.x)
    trained = z_BF, normalized.restore(y_hat_BO)
    try:
        return difference(trained, reconstruct(folder, sample.x, sample.y))
    except DifferentSae as error:
        raise ExportError(f"The SAE that was written {error}.") from error


def _saved(sae: Sae, normalizer: Normalizer, plan: Plan, metadata: dict[str, Any]) -> SavedSae:
    """The trained SAE as a reader of the folder is to find it."""
    weights, h = folded(sae, normalizer), plan.hyperparameters
    spans, scale = plan.architecture.spans, normalizer.scale_in
    kind = Kind.JUMPRELU if "threshold" in weights else Kind.RELU
    return SavedSae(
        kind=kind if plan.top_k is None else Kind.TOPK,
        **weights,
        k=plan.top_k,
        per_token=normalizer.method == "layer_norm",
        reads=Site(plan.layer, h.hook),
        writes=Site(plan.target_layer, plan.target_hook),
        across=tuple(Site(layer, h.hook) for layer in plan.layers) if spans else (),
        scales=scale if isinstance(scale, tuple) else (),
        metadata=metadata,
    )


def _metadata(plan: Plan, spec: RunSpec) -> dict[str, Any]:
    start = spec.start_from
    started_from = {"started_from": {"name": start.name, "sha256": start.digest}} if start else {}
    return started_from | {
        "model_name": spec.model_name,
        "dataset_path": spec.dataset_name,
        "training_name": spec.name,
        "trained_as": plan.architecture.value,
        "hyperparameters": plan.hyperparameters.model_dump(mode="json"),
    }
