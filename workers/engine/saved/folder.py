"""Which kind of folder it is, and the SAE in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from . import plain, saelens, sparsify
from .sae import SavedSae

_CONFIG = "cfg.json"


class UnreadableSae(Exception):
    """A folder holds no SAE that can be read; the message is a sentence."""


def open_sae(folder: Path) -> SavedSae:
    """The SAE in a folder of SAELens's, sparsify's or our own format, in float32 on the CPU.

    Raises `UnreadableSae`. Only safetensors are read; nothing is ever unpickled.
    """
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        file = _weights_file(folder)
        sae = _read(config, _float32(load_file(file)), folder.name, file.name)
        _check_shapes(sae)
    except (OSError, SafetensorError, TypeError) as error:
        raise UnreadableSae(f"The SAE in {folder} cannot be read: {error}.") from error
    except KeyError as error:
        raise UnreadableSae(f"The SAE in {folder} lacks {error}.") from error
    except ValueError as error:
        raise UnreadableSae(f"The SAE in {folder} cannot be used: {error}.") from error
    return sae


def files_of(folder: Path) -> tuple[str, str]:
    """Names of the files it is read from. Raises `ValueError` where there are none."""
    return _CONFIG, _weights_file(folder).name


def _weights_file(folder: Path) -> Path:
    for name in (saelens.WEIGHTS, sparsify.WEIGHTS):
        if (folder / name).is_file():
            return folder / name
    raise ValueError(f"there is neither {saelens.WEIGHTS} nor {sparsify.WEIGHTS} in it")


def _read(config: dict[str, Any], w: dict[str, Tensor], name: str, weights: str) -> SavedSae:
    if weights == sparsify.WEIGHTS:
        return sparsify.read(config, w, name)
    return plain.read(config, w) if plain.is_ours(config) else saelens.read(config, w)


def _float32(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.to(torch.float32) for name, value in weights.items()}


def _check_shapes(sae: SavedSae) -> None:
    """Raises `ValueError` where the tensors do not fit each other."""
    expected: dict[str, tuple[int, ...]] = {
        "W_enc": (sae.d_in, sae.d_sae),
        "b_enc": (sae.d_sae,),
        "W_dec": (sae.d_sae, sae.d_out),
        "b_dec": (sae.d_out,),
        "threshold": (sae.d_sae,),
        "W_skip": (sae.d_out, sae.d_in),
    }
    for name, shape in expected.items():
        tensor = getattr(sae, name)
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has the shape {tuple(tensor.shape)} and not {shape}")
