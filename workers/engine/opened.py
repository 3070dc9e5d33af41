"""A saved SAE beside the model and the text it is looked at with."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from . import machine
from .config.sae_job import SaeJobSpec
from .failure import TrainingError
from .language_model import Site, settled_device
from .model import inspect, model_size
from .order import Indices
from .saved import open_sae
from .tokens import Tokens
from .whole_model import WholeModel

# Logits, activations and latents of a pass.
_BESIDE = 1_500_000_000
Batch: TypeAlias = tuple[Tensor, Tensor, Tensor]


class Opened:
    """All that a job over an SAE needs, opened and checked against each other."""

    def __init__(self, spec: SaeJobSpec) -> None:
        """Raises `ModelError`, `TokenizeError`, `UnreadableSae` or `TrainingError`."""
        self.spec, self.device = spec, settled_device(spec.device)
        self.sae = open_sae(spec.sae_path).to(self.device)
        if self.sae.reads is None or self.sae.writes is None:
            raise TrainingError("The SAE's folder does not say which layer of the model it reads.")
        self.sites: tuple[Site, ...] = self.sae.across or (self.sae.reads, self.sae.writes)
        self.tokens = Tokens.of_model(spec.tokens_path, spec.model_path)
        self.dtype = _dtype(spec, self.device)
        self.model = WholeModel.load(spec.model_path, self.device, self.dtype, self._room())
        self._check_width()

    def batch(self, contexts: Indices) -> Batch:
        """Ids, which of them an SAE sees, and which are no padding; each [N, T]."""
        m = self.tokens.manifest
        ids = torch.from_numpy(self.tokens.ids[contexts].astype(np.int64))
        lengths = np.where(contexts == m.n_contexts - 1, m.last_length, m.context_length)
        real = torch.from_numpy(np.arange(m.context_length)[None, :] < lengths[:, None])
        usable = torch.from_numpy(self.tokens.usable(contexts))
        return ids.to(self.device), usable.to(self.device), real.to(self.device)

    def activations(self, ids_NT: Tensor) -> Tensor:
        """What the SAE reads [N, T, D]; those of a crosscoder's layers side by side."""
        reads = self.sae.across or self.sites[:1]
        return beside(self.model.activations(ids_NT, reads))

    def _room(self) -> int | None:
        """Bytes of the model that fit on a GPU beside a pass; None where all do.

        It is loaded whole here, which a training never does. Raises `TrainingError` where memory
        does not suffice.
        """
        on_gpu = self.device.type == "cuda"
        there = machine.gpu_left_bytes(self.device) if on_gpu else machine.left_bytes()
        whole = inspect(self.spec.model_path)
        size = model_size(self.spec.model_path, whole.d_model, whole.n_layers)
        head = whole.vocab_size * whole.d_model  # counted with no model that only reads activations
        width = torch.finfo(self.dtype).bits // 8
        needed = (size.parameters + head) * width + _BESIDE
        if there is None or needed <= there:
            return None
        if on_gpu and there > _BESIDE + 2 * size.block * width:
            return there - _BESIDE  # the rest lies elsewhere, if there is room
        raise TrainingError(
            f"The whole language model and a pass through it take about {needed / 1e9:.1f} GB, "
            f"and {there / 1e9:.1f} GB are free: use a larger device, or wait until others end."
        )

    def _check_width(self) -> None:
        width = self.model.width()
        if self.sae.width != width:
            raise TrainingError(
                f"The SAE reads activations of width {self.sae.width}, and this model's are "
                f"{width} wide: it belongs to another model."
            )


def beside(of_sites: list[Tensor]) -> Tensor:
    """Activations [..., D] of one or more places in one tensor."""
    return of_sites[0] if len(of_sites) == 1 else torch.cat(of_sites, -1)


def _dtype(spec: SaeJobSpec, device: torch.device) -> torch.dtype:
    """float32 on a processor; on a GPU the format in which the model was published."""
    if device.type != "cuda":
        return torch.float32
    name = inspect(spec.model_path).dtype
    return {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(name, torch.float32)
