"""The studio's own folder, which holds every SAE and explains itself.

cfg.json                   "format": "sae-studio", its version, sizes, the equations as text
sae_weights.safetensors    the tensors those equations name, in float32

`architecture` is a word that SAELens does not know: it would take the folder for one of its own,
and compute something else with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from ..checkpoint import write_json, write_tensors
from .hook_names import metadata_with_hooks, site_of
from .sae import Kind, SavedSae

NAME, VERSION = "sae-studio", 1
WEIGHTS, CONFIG = "sae_weights.safetensors", "cfg.json"
_SHAPES = {
    "W_enc": ["d_in", "d_sae"],
    "b_enc": ["d_sae"],
    "W_dec": ["d_sae", "d_out"],
    "b_dec": ["d_out"],
    "threshold": ["d_sae"],
    "W_skip": ["d_out", "d_in"],
}
_ACTIVATIONS = {
    Kind.RELU: "z = relu(pre)",
    Kind.JUMPRELU: "z = relu(pre) * (pre > threshold)",
    Kind.TOPK: "z = relu(pre) where pre is among the k largest of its token, 0 elsewhere",
}


def write(sae: SavedSae, folder: Path, why_not_saelens: str = "") -> Path:
    """Write both files into a folder, which is made; where they lie. Raises `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS, tensors(sae))
    reason = {"why_not_saelens": why_not_saelens} if why_not_saelens else {}
    write_json(folder / CONFIG, _config(sae) | reason)
    return folder


def tensors(sae: SavedSae) -> dict[str, Tensor]:
    """By the names that SAELens and this format share."""
    found = {name: getattr(sae, name) for name in _SHAPES}
    return {name: value for name, value in found.items() if value is not None}


def is_ours(config: dict[str, Any]) -> bool:
    return config.get("format") == NAME


def read(config: dict[str, Any], w: dict[str, Tensor]) -> SavedSae:
    """From what the two files hold. Raises `ValueError` with what cannot be read.

    Folders written before there was a version have all that is looked at here, too.
    """
    version = config.get("version", VERSION)
    if version != VERSION:
        raise ValueError(f"its format has version {version}, and version {VERSION} is known here")
    kind, metadata = Kind(config["activation"]), config.get("metadata") or {}
    reads = site_of(str(metadata.get("hook_name", "")))
    return SavedSae(
        kind=kind,
        W_enc=w["W_enc"],
        b_enc=w["b_enc"],
        W_dec=w["W_dec"],
        b_dec=w["b_dec"],
        threshold=w["threshold"] if kind is Kind.JUMPRELU else None,
        k=int(config["k"]) if kind is Kind.TOPK else None,
        W_skip=w.get("W_skip"),
        per_token=config["normalize_activations"] == "layer_norm",
        reads=reads,
        writes=site_of(metadata["hook_name_out"]) if "hook_name_out" in metadata else reads,
        metadata=metadata,
    )


def _config(sae: SavedSae) -> dict[str, Any]:
    k = {"k": sae.k} if sae.kind is Kind.TOPK else {}
    return {
        "format": NAME,
        "version": VERSION,
        "architecture": NAME,
        "activation": sae.kind.value,
        **k,
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        "d_out": sae.d_out,
        "dtype": "float32",
        "normalize_activations": "layer_norm" if sae.per_token else "none",
        "tensors": {name: _SHAPES[name] for name in tensors(sae)},
        "equations": equations(sae),
        "metadata": metadata_with_hooks(sae),
    }


def equations(sae: SavedSae) -> list[str]:
    """What is computed for each token x, in the order in which it is."""
    x = "x"
    found = []
    if sae.per_token:
        x = "x_n"
        found.append("x_n = (x - mean(x)) / (std(x) + 1e-5), std with d_in - 1 degrees of freedom")
    skip = f" + {x} @ W_skip.T" if sae.W_skip is not None else ""
    found += [f"pre = {x} @ W_enc + b_enc", _ACTIVATIONS[sae.kind], f"y = z @ W_dec + b_dec{skip}"]
    if sae.per_token:
        other = sae.is_transcoder and sae.W_skip is None
        source = "the target" if other else "x"
        found.append(f"y * std({source}) + mean({source}) is the reconstruction")
    return found
