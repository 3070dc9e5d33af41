"""A state that the ranks hold in pieces, put together into one file, and cut out of it again.

The file is the one that a single process writes, so a run goes on from it on any number of ranks.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from . import WHOLE
from .group import Ranks

# Indices of latents; they travel as a mask over all of them.
_INDICES = "dead.indices"
_DIMENSIONS = {"dead.counts": 1, "diagnosis.reference": 0, _INDICES: 0}


def gathered(own: dict[str, Tensor], latents: int, ranks: Ranks) -> dict[str, Tensor]:
    """The tensors of a state over all `latents`, on the host of the first rank; elsewhere none.

    One tensor after the other travels, so nobody but the first rank holds more than its own.
    """
    whole: dict[str, Tensor] = {}
    for name, tensor in own.items():
        dimension = _dimension(name)
        if dimension is None:
            if ranks.first:
                whole[name] = tensor.detach().to("cpu", copy=True)
            continue
        piece = _mask(tensor, ranks.share(latents)) if name == _INDICES else tensor
        if not ranks.first:
            ranks.send(piece)
            continue
        found = _received(piece, dimension, latents, ranks)
        whole[name] = found.nonzero().squeeze(1) if name == _INDICES else found
    return whole


def own_pieces(path: Path, latents: int, ranks: Ranks) -> dict[str, Tensor]:
    """This rank's piece of a file that holds a state over all latents."""
    own, found = ranks.share(latents), {}
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118 (no dictionary)
            dimension = _dimension(name)
            if name == _INDICES:
                indices = file.get_tensor(name)
                inside = (indices >= own.start) & (indices < own.stop)
                found[name] = indices[inside] - own.start
            elif dimension is None:
                found[name] = file.get_tensor(name)
            else:
                place = (slice(None),) * dimension + (own,)
                found[name] = file.get_slice(name)[place]
    return found


def _dimension(name: str) -> int | None:
    """That of a state's tensor which counts latents; None where every rank holds it whole."""
    part, _, rest = name.partition(".")
    if part in ("weights", "optimizer"):
        return None if rest.partition(".")[0] in WHOLE else 0
    return _DIMENSIONS.get(name)


def _mask(indices: Tensor, own: slice) -> Tensor:
    mask = torch.zeros(own.stop - own.start, dtype=torch.uint8)
    mask[indices.cpu()] = 1
    return mask


def _received(own: Tensor, dimension: int, latents: int, ranks: Ranks) -> Tensor:
    """The whole of which the first rank holds its `own` piece and takes the others'."""
    shape = list(own.shape)
    shape[dimension] = latents
    whole = torch.empty(shape, dtype=own.dtype)
    for source, place in enumerate(ranks.slices(latents)):
        into = whole.narrow(dimension, place.start, place.stop - place.start)
        if source == ranks.number:
            into.copy_(own)
        elif into.is_contiguous():
            ranks.receive(into, source)
        else:
            piece = torch.empty(into.shape, dtype=own.dtype)
            ranks.receive(piece, source)
            into.copy_(piece)
    return whole
