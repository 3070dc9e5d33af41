"""sparsify's folder (`cfg.json`, `sae.safetensors`), one for each place in the model.

Read and written beside eai-sparsify 1.3 (tests/interop).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from ..checkpoint import write_json, write_tensors
from .hook_names import lens_name, module_name, read_by_module, site_of
from .refusal import CannotExport
from .sae import Kind, SavedSae

WEIGHTS, CONFIG, _RUN = "sae.safetensors", "cfg.json", "config.json"


def write(sae: SavedSae, folder: Path) -> Path:
    """Write `<hookpoint>/` with both files, and the `config.json` above it; where the SAE lies.

    Raises `CannotExport` before anything is written, and `OSError`.
    """
    _check(sae)
    hookpoint, config = _hookpoint(sae), _config(sae)
    place = folder / hookpoint
    place.mkdir(parents=True, exist_ok=True)
    write_tensors(place / WEIGHTS, _tensors(sae))
    write_json(place / CONFIG, config | {"d_in": sae.d_in})
    write_json(folder / _RUN, {"sae": config, "hookpoints": [hookpoint]})
    return place


def _check(sae: SavedSae) -> None:
    """Raises `CannotExport` where sparsify would compute something else, or could not be told."""
    elsewhere = "export it to SAELens or as plain safetensors"
    if sae.across:
        raise CannotExport(
            "sparsify has no crosscoders: it names an SAE by the one layer that it belongs to",
            "export it as plain safetensors",
        )
    if sae.kind is not Kind.TOPK:
        raise CannotExport(f"sparsify has TopK SAEs only, and this is a {sae.kind}", elsewhere)
    if sae.per_token:
        raise CannotExport("sparsify does not normalize activations per token", elsewhere)
    if sae.d_in != sae.d_out:
        raise CannotExport(
            f"sparsify writes as wide as it reads, and this reads {sae.d_in} and writes "
            f"{sae.d_out} values",
            "export it as plain safetensors",
        )
    if sae.writes is None:
        raise CannotExport(
            "sparsify names a folder by the layer, and this SAE does not say which it belongs to",
            elsewhere,
        )
    if sae.writes.hook == "mlp_in":
        raise CannotExport(
            "sparsify's SAEs write the output of a module, and this writes "
            f"{lens_name(sae.writes)}, an input",
            elsewhere,
        )
    if sae.is_transcoder and sae.reads and read_by_module(sae.writes) != sae.reads:
        raise CannotExport(
            f"sparsify's transcoders read the input of the module whose output they write, and "
            f"this reads {lens_name(sae.reads)} and writes {lens_name(sae.writes)}",
            "export it as plain safetensors",
        )


def _hookpoint(sae: SavedSae) -> str:
    """The name it came with, if from sparsify: models call their layers differently."""
    assert sae.writes
    given = str(sae.metadata.get("hookpoint", ""))
    return given if site_of(given) == sae.writes else module_name(sae.writes)


def _tensors(sae: SavedSae) -> dict[str, Tensor]:
    """x W_enc + b_enc is (x − b_dec) W_enc + (b_enc + b_dec W_enc); sparsify subtracts b_dec."""
    b_enc = sae.b_enc
    if not sae.is_transcoder:
        b_enc = (b_enc.double() + sae.b_dec.double() @ sae.W_enc.double()).float()
    found = {
        "encoder.weight": sae.W_enc.T,
        "encoder.bias": b_enc,
        "W_dec": sae.W_dec,
        "b_dec": sae.b_dec,
    }
    return found | ({} if sae.W_skip is None else {"W_skip": sae.W_skip})


def _config(sae: SavedSae) -> dict[str, Any]:
    assert sae.k is not None
    return {
        "activation": "topk",
        "expansion_factor": max(1, sae.d_sae // sae.d_in),
        "normalize_decoder": False,
        "num_latents": sae.d_sae,
        "k": min(sae.k, sae.d_sae),
        "multi_topk": False,
        "skip_connection": sae.W_skip is not None,
        "transcode": sae.is_transcoder,
    }


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
    reads = read_by_module(writes) if transcodes and writes else writes
    return SavedSae(
        kind=Kind.TOPK,
        W_enc=W_enc,
        b_enc=b_enc,
        W_dec=w["W_dec"],
        b_dec=w["b_dec"],
        k=int(config["k"]),
        W_skip=w.get("W_skip"),
        reads=reads,
        writes=writes,
        metadata={"hookpoint": hookpoint},
    )
