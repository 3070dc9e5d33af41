"""SAELens's folder: `cfg.json` and `sae_weights.safetensors`.

Formats: docs/formats.md. Read and written with sae-lens 6.54 beside it (tests/interop).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from ..checkpoint import write_json, write_tensors
from . import plain
from .hook_names import metadata_with_hooks, site_of
from .refusal import CannotExport
from .sae import Kind, SavedSae
from .saelens_before_6 import modern

WEIGHTS, CONFIG = "sae_weights.safetensors", "cfg.json"
# The oldest version whose readers take the metadata as it is written here.
_VERSION = "6.0.0"
_KINDS = {
    "standard": Kind.RELU,
    "jumprelu": Kind.JUMPRELU,
    "topk": Kind.TOPK,
    "transcoder": Kind.RELU,
    "skip_transcoder": Kind.RELU,
    "jumprelu_transcoder": Kind.JUMPRELU,
    "jumprelu_skip_transcoder": Kind.JUMPRELU,
}
_SAES = {Kind.RELU: "standard", Kind.JUMPRELU: "jumprelu", Kind.TOPK: "topk"}
_NORMALIZATIONS = {"none": False, "layer_norm": True}


def write(sae: SavedSae, folder: Path) -> Path:
    """Write both files into a folder, which is made; where they lie.

    Raises `CannotExport` before anything is written, and `OSError`.
    """
    architecture = _architecture(sae)
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS, plain.tensors(sae))
    write_json(folder / CONFIG, _config(sae, architecture))
    return folder


def _architecture(sae: SavedSae) -> str:
    """SAELens's name for it. Raises `CannotExport` where there is none."""
    if sae.across:
        raise CannotExport(
            "SAELens has no crosscoders, and no place for an SAE that reads several layers",
            "export it as plain safetensors",
        )
    if not sae.is_transcoder and sae.W_skip is None and sae.d_in == sae.d_out:
        return _SAES[sae.kind]
    name = "skip transcoder" if sae.W_skip is not None else "transcoder"
    if sae.kind is Kind.TOPK:
        raise CannotExport(
            f"SAELens has no TopK {name}", "export it to sparsify or as plain safetensors"
        )
    if sae.per_token:
        raise CannotExport(
            f"SAELens cannot scale the output of a {name} per token",
            "export it as plain safetensors, or train it with another normalization",
        )
    return ("jumprelu_" if sae.kind is Kind.JUMPRELU else "") + name.replace(" ", "_")


def _config(sae: SavedSae, architecture: str) -> dict[str, Any]:
    """`apply_b_dec_to_input` is true where it is left out, and `d_out` is 768, `k` 100."""
    config: dict[str, Any] = {
        "architecture": architecture,
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "layer_norm" if sae.per_token else "none",
        "reshape_activations": "none",
    }
    if sae.kind is Kind.TOPK:
        assert sae.k is not None
        config |= {"k": min(sae.k, sae.d_sae), "rescale_acts_by_decoder_norm": False}
    if "transcoder" in architecture:
        config["d_out"] = sae.d_out
    metadata = {"model_from_pretrained_kwargs": {}} | metadata_with_hooks(sae)
    return config | {"metadata": metadata | {"sae_lens_version": _VERSION}}


def read(config: dict[str, Any], w: dict[str, Tensor]) -> SavedSae:
    """From what the two files hold. Raises `ValueError` with what cannot be read."""
    config = modern(config)
    kind, w = _kind(config), _by_decoder_norm(config, w)
    normalization = config.get("normalize_activations") or "none"
    if normalization not in _NORMALIZATIONS:
        raise ValueError(
            f"its activations are normalized by {normalization}, which has to be folded into the "
            "weights first (SAELens: fold_activation_norm_scaling_factor)"
        )
    metadata = config.get("metadata") or {}
    reads = site_of(str(metadata.get("hook_name") or ""))
    writes = site_of(str(metadata.get("hook_name_out") or ""))
    return SavedSae(
        kind=kind,
        W_enc=w["W_enc"],
        b_enc=_encoder_bias(config, w),
        W_dec=w["W_dec"],
        b_dec=w["b_dec"],
        threshold=w["threshold"] if kind is Kind.JUMPRELU else None,
        k=int(config.get("k", 100)) if kind is Kind.TOPK else None,
        W_skip=w.get("W_skip"),
        per_token=_NORMALIZATIONS[normalization],
        reads=reads,
        writes=writes if "transcoder" in config["architecture"] else reads,
        metadata=metadata,
    )


def _kind(config: dict[str, Any]) -> Kind:
    architecture = config.get("architecture")
    if architecture not in _KINDS:
        raise ValueError(
            f"its architecture {architecture!r} is not one of {', '.join(sorted(_KINDS))}"
        )
    return _KINDS[architecture]


def _by_decoder_norm(config: dict[str, Any], w: dict[str, Tensor]) -> dict[str, Tensor]:
    """With `rescale_acts_by_decoder_norm`, pre-activations are multiplied by the norm n of their
    latent's decoder row and latents divided by it again: W_enc n, b_enc n and W_dec / n."""
    if not config.get("rescale_acts_by_decoder_norm"):
        return w
    norm_F = w["W_dec"].double().norm(dim=1)
    folded = {
        "W_enc": w["W_enc"].double() * norm_F,
        "b_enc": w["b_enc"].double() * norm_F,
        "W_dec": w["W_dec"].double() / norm_F.clamp_min(1e-30)[:, None],
    }
    return w | {name: value.float() for name, value in folded.items()}


def _encoder_bias(config: dict[str, Any], w: dict[str, Tensor]) -> Tensor:
    """(x − b_dec) W_enc + b_enc is x W_enc + (b_enc − b_dec W_enc)."""
    transcodes = "transcoder" in config["architecture"]
    if transcodes or not config.get("apply_b_dec_to_input", True):
        return w["b_enc"]
    return (w["b_enc"].double() - w["b_dec"].double() @ w["W_enc"].double()).float()
