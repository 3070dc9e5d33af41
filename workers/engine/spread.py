"""A language model that does not fit on the device that trains, spread over what else there is.

Blocks go to the device as far as there is room, then to other GPUs of this process, then to the
host's memory, from which they are copied for each pass (accelerate's `device_map`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import machine, memory
from .failure import TrainingError

log = logging.getLogger(__name__)

# Of the free memory of another GPU and of the host, passes and other work want some.
_SHARE = 0.8
Place = int | str


def bytes_of(model: nn.Module) -> int:
    """Of its weights, each once."""
    weights = {p.data_ptr(): p.numel() * p.element_size() for p in model.parameters()}
    return sum(weights.values())


def places(device: torch.device, room: int) -> dict[Place, int]:
    """Bytes of weights that may lie on the device, on the other GPUs, and in the host's memory."""
    index = device.index or 0
    others = (n for n in range(torch.cuda.device_count()) if n != index)
    free = {n: machine.gpu_left_bytes(torch.device("cuda", n)) for n in others}
    host = machine.left_bytes()
    found: dict[Place, int] = {index: room}
    found |= {n: int(_SHARE * there) for n, there in free.items()}
    return found | {"cpu": 2**62 if host is None else int(_SHARE * host)}


def spread(
    model: nn.Module,
    block: type[nn.Module],
    there: Mapping[Place, int],
    offload: Path | None = None,
) -> dict[str, Any]:
    """Put the parts of the model where there is room for them, blocks whole; return where.

    `there`: bytes by GPU, "cpu" and "disk", the first ones first. Passes take ids from anywhere.
    With "disk", `offload` is a folder for what is put there. Raises `TrainingError` where all of it
    is too little.
    """
    from accelerate import dispatch_model, infer_auto_device_map

    dtype = next(model.parameters()).dtype
    found: dict[str, Any] = infer_auto_device_map(
        model, dict(there), no_split_module_classes=[block.__name__], dtype=dtype
    )
    if "disk" in found.values() and offload is None:
        raise TrainingError(
            f"The language model takes {memory.gigabytes(bytes_of(model))}, more than the GPUs of "
            "this worker and the memory of its host have left together. Choose a larger machine, "
            "or more GPUs for the worker."
        )
    dispatch_model(model, found, offload_dir=offload)
    log.info("The language model is spread: %s", _counted(found))
    return found


@contextmanager
def here(part: nn.Module) -> Iterator[None]:
    """While this is open, the weights of a part can be read, wherever they lie."""
    from accelerate.utils import align_module_device

    with align_module_device(part):
        yield


def _counted(found: Mapping[str, Any]) -> str:
    counts: dict[str, int] = {}
    for place in found.values():
        counts[str(place)] = counts.get(str(place), 0) + 1
    return ", ".join(f"{count} parts on {place}" for place, count in counts.items())
