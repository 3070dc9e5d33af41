"""The studio's own folder, which holds every SAE and explains itself.

cfg.json                   "format": "sae-studio", its version, sizes, the equations as text
sae_weights.safetensors    the tensors those equations name, in float32

A crosscoder's tensors have a side for the layer, and its cfg.json version 2.

`architecture` is a word that SAELens does not know: it would take the folder for one of its own,
and compute something else with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from ..checkpoint import write_json, write_tensors
from ..language_model import Site
from .hook_names import metadata_with_hooks, site_of
from .sae import Kind, SavedSae

# Version 2 is that of crosscoders: who knows version 1 alone would take one for something else.
NAME, VERSION, ACROSS = "sae-studio", 1, 2
WEIGHTS, CONFIG = "sae_weights.safetensors", "cfg.json"
_SHAPES = {
    "W_enc": ["d_in", "d_sae"],
    "b_enc": ["d_sae"],
    "W_dec": ["d_sae", "d_out"],
    "b_dec": ["d_out"],
    "threshold": ["d_sae"],
    "W_skip": ["d_out", "d_in"],
}
_SHAPES_ACROSS = {
    "W_enc": ["n_layers", "d_in", "d_sae"],
    "b_enc": ["d_sae"],
    "W_dec": ["d_sae", "n_layers", "d_out"],
    "b_dec": ["n_layers", "d_out"],
    "threshold": ["d_sae"],
}
_ACTIVATIONS = {
    Kind.RELU: "z = relu(pre)",
    Kind.JUMPRELU: "z = relu(pre) * (pre > threshold)",
    Kind.TOPK: "z = relu(pre) where pre is among the k largest of its token, 0 elsewhere",
}


def write(sae: SavedSae, folder: Path, why_not_saelens: str = "") -> Path:
    """Write both files into a folder, which is made; where they lie. Raises `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS, _by_layer(sae) if sae.across else tensors(sae))
    reason = {"why_not_saelens": why_not_saelens} if why_not_saelens else {}
    write_json(folder / CONFIG, _config(sae) | reason)
    return folder


def tensors(sae: SavedSae) -> dict[str, Tensor]:
    """By the names that SAELens and this format share."""
    found = {name: getattr(sae, name) for name in _SHAPES}
    return {name: value for name, value in found.items() if value is not None}


def _by_layer(sae: SavedSae) -> dict[str, Tensor]:
    """The tensors of a crosscoder, with a side for the layer."""
    parts = {
        "W_enc": sae.W_enc.view(sae.layers, sae.width, sae.d_sae),
        "W_dec": sae.W_dec.view(sae.d_sae, sae.layers, sae.width),
        "b_dec": sae.b_dec.view(sae.layers, sae.width),
    }
    return tensors(sae) | {name: value.contiguous() for name, value in parts.items()}


def is_ours(config: dict[str, Any]) -> bool:
    return config.get("format") == NAME


def read(config: dict[str, Any], w: dict[str, Tensor]) -> SavedSae:
    """From what the two files hold. Raises `ValueError` with what cannot be read.

    Folders written before there was a version have all that is looked at here, too.
    """
    version = config.get("version", VERSION)
    if version not in (VERSION, ACROSS):
        raise ValueError(
            f"its format has version {version}, and versions {VERSION} and {ACROSS} are known here"
        )
    kind, metadata = Kind(config["activation"]), config.get("metadata") or {}
    across, w = _side_by_side(metadata, w) if version == ACROSS else ((), w)
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
        across=across,
        scales=tuple(map(float, config.get("trained_scales", ()))),
        metadata=metadata,
    )


def _side_by_side(
    metadata: dict[str, Any], w: dict[str, Tensor]
) -> tuple[tuple[Site, ...], dict[str, Tensor]]:
    """Where a crosscoder reads, and its tensors with the layers side by side.

    Raises `ValueError` where these do not fit each other.
    """
    names = [str(name) for name in metadata["hook_names"]]
    sites = [site_of(name) for name in names]
    across = tuple(site for site in sites if site is not None)
    if len(across) < len(sites) or len(set(across)) < max(2, len(across)):
        raise ValueError(f"its places {', '.join(names)} are not two or more different known ones")
    W_enc, W_dec, b_dec = w["W_enc"], w["W_dec"], w["b_dec"]
    layers, wide = len(across), W_enc.shape[1]
    if (W_enc.ndim, W_dec.ndim) != (3, 3) or W_enc.shape[0] != layers:
        raise ValueError(f"W_enc and W_dec are not those of a crosscoder of {layers} layers")
    if W_dec.shape[1:] != (layers, wide) or b_dec.shape != (layers, wide):
        raise ValueError(f"W_dec and b_dec do not write {wide} values to each of {layers} layers")
    parts = {
        "W_enc": W_enc.reshape(layers * wide, -1),
        "W_dec": W_dec.reshape(-1, layers * wide),
        "b_dec": b_dec.flatten(),
    }
    return across, w | parts


def _config(sae: SavedSae) -> dict[str, Any]:
    k = {"k": sae.k} if sae.kind is Kind.TOPK else {}
    shapes = _SHAPES_ACROSS if sae.across else _SHAPES
    across: dict[str, Any] = {}
    if sae.across:
        across = {"n_layers": sae.layers, "layers": [site.layer for site in sae.across]}
    if sae.scales:
        across["trained_scales"] = list(sae.scales)
    return {
        "format": NAME,
        "version": ACROSS if sae.across else VERSION,
        "architecture": NAME,
        "activation": sae.kind.value,
        **k,
        **across,
        "d_in": sae.width,
        "d_sae": sae.d_sae,
        "d_out": sae.d_out // sae.layers,
        "dtype": "float32",
        "normalize_activations": "layer_norm" if sae.per_token else "none",
        "tensors": {name: shapes[name] for name in tensors(sae)},
        "equations": equations(sae),
        "metadata": metadata_with_hooks(sae),
    }


def equations(sae: SavedSae) -> list[str]:
    """What is computed for each token x, in the order in which it is."""
    if sae.across:
        return _equations_across(sae)
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


def _equations_across(sae: SavedSae) -> list[str]:
    """Of a crosscoder, where x[l] are the activations at the l-th of its layers."""
    x = "x_n" if sae.per_token else "x"
    found = []
    if sae.per_token:
        found.append(
            "x_n[l] = (x[l] - mean(x[l])) / (std(x[l]) + 1e-5), "
            "std with d_in - 1 degrees of freedom"
        )
    found += [
        f"pre = sum over l of {x}[l] @ W_enc[l] + b_enc",
        _ACTIVATIONS[sae.kind],
        "y[l] = z @ W_dec[:, l] + b_dec[l]",
    ]
    if sae.per_token:
        found.append("y[l] * std(x[l]) + mean(x[l]) is the reconstruction of x[l]")
    return found
