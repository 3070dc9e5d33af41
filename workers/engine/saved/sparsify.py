"""sparsify's folder (`cfg.json`, `sae.safetensors`), one for each place in the model.

Read and written beside eai-sparsify 1.3 (tests/interop).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .hook_names import site_of
from .sae import Kind, SavedSae

WEIGHTS = "sae.safetensors"


def read(config: dict[str, Any], w: dict[str, Tensor], hookpoint: str) -> SavedSae:
    """From what the two files hold; `hookpoint` is the name of their folder.

    Raises `ValueError` with what cannot be read.
    """
    if config.get("activation", "topk") != "topk":
        raise ValueError(f"its activation is {config['activation']}, and only topk can be read")
    transcodes = bool(config.get("transcode"))
    W_enc, b_enc = w["encoder.weight"].T.contiguous(), w["encoder.bias"]
    if not transcodes:
        b_enc = (b_enc.double() - w["b_dec"].double() @ W_enc.double()).float()
    writes = site_of(hookpoint)
    return SavedSae(
        kind=Kind.TOPK,
        W_enc=W_enc,
        b_enc=b_enc,
        W_dec=w["W_dec"],
        b_dec=w["b_dec"],
        k=int(config["k"]),
        W_skip=w.get("W_skip"),
        reads=None if transcodes else writes,
        writes=writes,
    )
