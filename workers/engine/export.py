"""The trained SAE as a folder that SAELens loads, or a plain one where SAELens has no such thing.

Normalization is folded into the weights, so that the folder works on raw activations. The folder
is read back and compared before the run may end.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from . import crash
from .activations import Activations
from .checkpoint import replace, write_json, write_tensors
from .config import Architecture, Plan, RunSpec
from .evaluate import Evaluation
from .normalize import Normalizer
from .sae import Sae, Weights

_WEIGHTS, _CONFIG, _SPARSITY = "sae_weights.safetensors", "cfg.json", "sparsity.safetensors"
_TOLERANCE = 1e-4
# Of the tokens, how many may differ in which latents fire: a latent within rounding of its
# threshold may fall on either side once the scale is folded into the weights.
_BORDERLINE = 0.02
# The oldest version whose readers take the metadata below as it is.
_SAELENS_VERSION = "6.0.0"
_TWO_SIDED = {Architecture.SKIP: "skip_transcoder", Architecture.TRANSCODER: "transcoder"}


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
    why_plain = _why_plain(plan)
    temporary = out.with_name(out.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        weights = folded(sae, normalizer)
        write_tensors(temporary / _WEIGHTS, weights)
        log_frequency_F = evaluation.frequency_F.clamp_min(1e-10).log10()
        write_tensors(temporary / _SPARSITY, {"sparsity": log_frequency_F})
        config = _config(weights, normalizer, plan, why_plain)
        write_json(temporary / _CONFIG, config | {"metadata": _metadata(plan, spec) | metadata})
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
    w, s_in, s_out = sae.weights, normalizer.scale_in, normalizer.scale_out
    read = sae.activation.inference(w)
    # One matrix in float64 at a time: this must not take more memory than training did.
    weights = {
        "W_enc": read["W_enc"].to(torch.float64, copy=True).mul_(s_in).float().T,
        "b_enc": read["b_enc"],
        "W_dec": w["W_dec"].to(torch.float64, copy=True).div_(s_out).float(),
        "b_dec": w["b_dec"].double() / s_out,
    }
    if "threshold" in read:
        weights["threshold"] = read["threshold"]
    if sae.has_skip:
        identity = torch.eye(len(w["b_dec"]), dtype=torch.float64, device=w["b_dec"].device)
        weights["W_skip"] = identity * (s_in / s_out)
    # Copies: tensors of one file must not share memory.
    return {name: value.float().contiguous().clone() for name, value in weights.items()}


def reconstruct(folder: Path, x_BD: Tensor, y_BO: Tensor) -> tuple[Tensor, Tensor]:
    """Latents and reconstruction of raw activations by an exported folder, as its cfg.json says.

    The equations of SAELens, written here a second time on purpose: this is what the export is
    compared with. `y` is used only by a transcoder with layer_norm, whose output is scaled back
    with the statistics of its target.
    """
    config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    w = {name: value.to(x_BD.device) for name, value in load_file(folder / _WEIGHTS).items()}
    normalizer = Normalizer(_per_token(config), shared="W_skip" in w or y_BO is x_BD)
    normalized = normalizer(x_BD, y_BO)
    pre_BF = normalized.x @ w["W_enc"] + w["b_enc"]
    z_BF = _activated(pre_BF, config, w)
    y_hat_BO = z_BF @ w["W_dec"] + w["b_dec"]
    if "W_skip" in w:
        y_hat_BO = y_hat_BO + normalized.x @ w["W_skip"].T
    return z_BF, normalized.restore(y_hat_BO)


def _per_token(config: dict[str, Any]) -> Any:
    return "layer_norm" if config["normalize_activations"] == "layer_norm" else "none"


def _activated(pre_BF: Tensor, config: dict[str, Any], w: Weights) -> Tensor:
    if "k" in config:
        values, indices = pre_BF.topk(config["k"], dim=1)
        return torch.zeros_like(pre_BF).scatter(1, indices, values.relu())
    if "threshold" in w:
        return pre_BF.relu() * (pre_BF > w["threshold"])
    return pre_BF.relu()


def _compare(folder: Path, sae: Sae, normalizer: Normalizer, sample: Activations) -> float:
    normalized = normalizer(sample.x, sample.y)
    z_BF, y_hat_BO = sae.reconstruct(normalized.x)
    trained_BO = normalized.restore(y_hat_BO)
    read_z_BF, read_BO = reconstruct(folder, sample.x, sample.y)
    agree_B = ((z_BF > 0) == (read_z_BF > 0)).all(1)
    if float(agree_B.float().mean()) < 1 - _BORDERLINE:
        raise ExportError("The SAE that was written fires other latents than the trained one.")
    largest = trained_BO.abs().max().clamp_min(1e-12)
    difference = float(((trained_BO - read_BO).abs().amax(1) / largest)[agree_B].max())
    if not difference < _TOLERANCE:
        raise ExportError(
            f"The SAE that was written reconstructs differently from the trained one, by "
            f"{difference:.2g} of the largest value."
        )
    return difference


def _why_plain(plan: Plan) -> str:
    """Why SAELens cannot hold this SAE; empty where it can."""
    h, two_sided = plan.hyperparameters, plan.architecture in _TWO_SIDED
    if two_sided and plan.top_k is not None:
        return f"SAELens has no TopK {plan.architecture.label.lower()}"
    if two_sided and h.normalize_activations == "layer_norm":
        return f"SAELens cannot scale the output of a {plan.architecture.label.lower()} per token"
    return ""


def _config(weights: Weights, normalizer: Normalizer, plan: Plan, why_plain: str) -> dict[str, Any]:
    config: dict[str, Any] = {
        "architecture": _architecture(weights, plan),
        "d_in": plan.d_in,
        "d_sae": plan.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "layer_norm" if normalizer.method == "layer_norm" else "none",
        "reshape_activations": "none",
    }
    if plan.top_k is not None:
        config |= {"k": plan.top_k, "rescale_acts_by_decoder_norm": False}
    if plan.architecture in _TWO_SIDED:
        config["d_out"] = plan.d_out
    if why_plain:
        config |= {"format": "sae-studio", "activation": "topk" if plan.top_k else "relu"}
        config["why_not_saelens"] = why_plain
    return config


def _architecture(weights: Weights, plan: Plan) -> str:
    """SAELens's name for it; a plain folder has the nearest one and says what differs."""
    jump = "jumprelu" if "threshold" in weights else ""
    if plan.architecture in _TWO_SIDED:
        return "_".join(part for part in (jump, _TWO_SIDED[plan.architecture]) if part)
    return "topk" if plan.top_k is not None else jump or "standard"


def _metadata(plan: Plan, spec: RunSpec) -> dict[str, Any]:
    h = plan.hyperparameters
    found: dict[str, Any] = {
        "sae_lens_version": _SAELENS_VERSION,
        "model_name": spec.model_name,
        "hook_name": _hook_name(h.hook, plan.layer),
        "model_from_pretrained_kwargs": {},
        "dataset_path": spec.dataset_name,
        "training_name": spec.name,
        "trained_as": plan.architecture.value,
        "hyperparameters": h.model_dump(mode="json"),
    }
    if plan.architecture in _TWO_SIDED:
        found["hook_name_out"] = _hook_name(h.hook, plan.target_layer)
    return found


def _hook_name(hook: str, layer: int) -> str:
    """The name TransformerLens gives to the same place."""
    return f"blocks.{layer}.hook_{hook}"
