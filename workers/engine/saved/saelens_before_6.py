"""SAELens's `cfg.json` from before its version 6: everything on one level, under older names."""

from __future__ import annotations

from typing import Any

_RENAMED = {"hook_point": "hook_name", "activation_fn_str": "activation_fn"}
_METADATA = (
    "model_name",
    "hook_name",
    "hook_name_out",
    "context_size",
    "prepend_bos",
    "dataset_path",
    "neuronpedia_id",
    "model_from_pretrained_kwargs",
)


def modern(config: dict[str, Any]) -> dict[str, Any]:
    """The same as version 6 would write it. Raises `ValueError` with what cannot be read."""
    if "metadata" in config:
        return config
    found = {_RENAMED.get(name, name): value for name, value in config.items()}
    found.setdefault("architecture", "standard")
    activation = found.get("activation_fn") or "relu"
    if activation == "topk":
        found |= {"architecture": "topk", "k": found["activation_fn_kwargs"]["k"]}
    elif activation != "relu":
        raise ValueError(f"its activation is {activation}, and only relu and topk can be read")
    if isinstance(found.get("normalize_activations"), bool):
        scaled = found["normalize_activations"]
        found["normalize_activations"] = "expected_average_only_in" if scaled else "none"
    metadata = {name: found[name] for name in _METADATA if found.get(name) is not None}
    return found | {"metadata": metadata}
