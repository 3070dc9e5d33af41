"""SAELens's folder (`cfg.json`, `sae_weights.safetensors`), and ours where SAELens has no such SAE.

Formats: docs/formats.md. Read with sae-lens 6.54 beside it (tests/interop).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .hook_names import site_of
from .sae import Kind, SavedSae

WEIGHTS = "sae_weights.safetensors"
_KINDS = {
    "standard": Kind.RELU,
    "jumprelu": Kind.JUMPRELU,
    "topk": Kind.TOPK,
    "transcoder": Kind.RELU,
    "skip_transcoder": Kind.RELU,
    "jumprelu_transcoder": Kind.JUMPRELU,
    "jumprelu_skip_transcoder": Kind.JUMPRELU,
}
_NORMALIZATIONS = {"none": False, "layer_norm": True}


def read(config: dict[str, Any], w: dict[str, Tensor]) -> SavedSae:
    """From what the two files hold. Raises `ValueError` with what cannot be read."""
    kind = _kind(config)
    normalization = config.get("normalize_activations", "none")
    if normalization not in _NORMALIZATIONS:
        raise ValueError(
            f"its activations are normalized by {normalization}, which has to be folded into the "
            "weights first (SAELens: fold_activation_norm_scaling_factor)"
        )
    metadata = config.get("metadata") or {}
    reads = site_of(str(metadata.get("hook_name") or config.get("hook_name") or ""))
    writes = _writes(config, metadata)
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
    if config.get("format") == "sae-studio":
        return Kind(config["activation"])
    architecture = config.get("architecture")
    if architecture not in _KINDS:
        raise ValueError(
            f"its architecture {architecture!r} is not one of {', '.join(sorted(_KINDS))}"
        )
    if config.get("rescale_acts_by_decoder_norm"):
        raise ValueError("it rescales latents by the decoder's norm; fold that in first")
    return _KINDS[architecture]


def _writes(config: dict[str, Any], metadata: dict[str, Any]) -> Any:
    return site_of(str(metadata.get("hook_name_out") or config.get("hook_name_out") or ""))


def _encoder_bias(config: dict[str, Any], w: dict[str, Tensor]) -> Tensor:
    """(x − b_dec) W_enc + b_enc is x W_enc + (b_enc − b_dec W_enc)."""
    transcodes = "transcoder" in config["architecture"]
    if transcodes or not config.get("apply_b_dec_to_input", True):
        return w["b_enc"]
    return (w["b_enc"].double() - w["b_dec"].double() @ w["W_enc"].double()).float()
