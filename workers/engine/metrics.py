"""Metrics over a window of steps, summed on the device and read once, when a point is emitted.

Definitions, in raw space where not said otherwise (x input, y target, ŷ reconstruction):

    fvu         = Σ‖y − ŷ‖² / Σ‖y − ȳ‖², both summed over the window before dividing
    fvu_skip    = Σ‖y − s‖² / Σ‖y − ȳ‖², the skip alone taken for the reconstruction: s = x, or
                  x W_skipᵀ + b_dec where the skip is learned
    fvu_latents = Σ‖δ − δ̂‖² / Σ‖δ − δ̄‖² with δ = y − s, what the skip leaves to the latents
    fvu         of a crosscoder is the mean of its layers' own, so that the largest does not rule
    l0, l1      = active latents per token, their sum per token (normalized)
    loss, reconstruction_loss = as trained on, normalized, mean over the tokens
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .activations import Activations
from .normalize import Normalized
from .sae import cpu

_SCALARS = ("loss", "reconstruction_loss", "l0", "l1", "error", "square", "delta_square")


class Window:
    """Running sums since the last `clear`; double precision, so that a large mean does no harm."""

    def __init__(self, d_out: int, has_skip: bool, device: torch.device, layers: int = 1) -> None:
        self._has_skip, self._layers = has_skip, layers
        # Of a crosscoder the errors and the squares of each layer.
        self._by_layer = torch.zeros(2, layers, dtype=torch.float64, device=device)
        self._scalars = torch.zeros(len(_SCALARS), dtype=torch.float64, device=device)
        self._sum_O = torch.zeros(d_out, dtype=torch.float64, device=device)
        self._delta_sum_O = torch.zeros(d_out, dtype=torch.float64, device=device)
        self.tokens = 0

    def add(
        self,
        batch: Activations,
        normalized: Normalized,
        residual_BO: Tensor,
        terms: list[Tensor],
        skip_BO: Tensor | None = None,
    ) -> None:
        """Add a batch. `terms` are loss, reconstruction_loss, l0 and l1, means over its tokens.

        `skip_BO` is x W_skipᵀ + b_dec, normalized, of a learned skip.

        All sums are made before the first is added: where memory runs out nothing is changed.
        """
        error = _error(residual_BO, normalized.unit)
        delta_square, delta_sum_O = error.new_zeros(()), torch.zeros_like(self._delta_sum_O)
        if self._has_skip:
            alone_BO = batch.x if skip_BO is None else normalized.restore(skip_BO)
            delta_BO = batch.y - alone_BO
            delta_square, delta_sum_O = _square(delta_BO), _sums(delta_BO)
        means = [term.double() * len(batch) for term in terms]
        scalars = torch.stack([*means, error, _square(batch.y), delta_square])
        sum_O = _sums(batch.y)
        if self._layers > 1:
            by_layer = [residual_BO * normalized.unit, batch.y]
            self._by_layer += torch.stack([_squares(m_BO, self._layers) for m_BO in by_layer])
        self._delta_sum_O += delta_sum_O
        self._scalars += scalars
        self._sum_O += sum_O
        self.tokens += len(batch)

    @property
    def loss_sum(self) -> Tensor:
        """A scalar on the device; not finite from the first step on whose loss was not."""
        return self._scalars[0]

    def read(self) -> dict[str, float]:
        """The metrics of the window; waits for the device. Undefined ones are NaN."""
        values = dict(zip(_SCALARS, self._scalars.tolist(), strict=True))
        found = {name: _ratio(values[name], self.tokens) for name in _SCALARS[:4]}
        variance = self._variance(values["square"], self._sum_O)
        found["fvu"] = _ratio(values["error"], variance)
        if self._layers > 1:
            found["fvu"] = sum(self.fvu_by_layer()) / self._layers
        if self._has_skip:
            delta_variance = self._variance(values["delta_square"], self._delta_sum_O)
            found["fvu_skip"] = _ratio(values["delta_square"], variance)
            found["fvu_latents"] = _ratio(values["error"], delta_variance)
        return found

    def fvu_by_layer(self) -> list[float]:
        """Of each layer of a crosscoder; waits for the device."""
        errors, squares = self._by_layer.tolist()
        sums = self._sum_O.chunk(self._layers)
        return [
            _ratio(error, self._variance(square, sum_D))
            for error, square, sum_D in zip(errors, squares, sums, strict=True)
        ]

    def clear(self) -> None:
        for tensor in (self._scalars, self._sum_O, self._delta_sum_O, self._by_layer):
            tensor.zero_()
        self.tokens = 0

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {"scalars": self._scalars, "sum": self._sum_O, "delta_sum": self._delta_sum_O}
        if self._layers > 1:
            tensors["by_layer"] = self._by_layer
        return tensors, {"tokens": self.tokens}

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        for name, tensor in self.state()[0].items():
            tensor.copy_(tensors[name])
        self.tokens = numbers["tokens"]

    def _variance(self, square: float, sum_O: Tensor) -> float:
        return square - float(sum_O.square().sum()) / max(self.tokens, 1)


def _error(residual_BO: Tensor, unit: Tensor | float) -> Tensor:
    """Σ‖residual · unit‖², `unit` one number or one per token."""
    if isinstance(unit, Tensor):
        return _square(residual_BO * unit)
    return _square(residual_BO) * unit**2


def _sums(m_BO: Tensor) -> Tensor:
    """[O], over the tokens, in double precision."""
    return cpu.sums(m_BO) if m_BO.is_cpu else m_BO.sum(0, dtype=torch.float64)


def _square(m_BO: Tensor) -> Tensor:
    """Σ‖row‖²; rows are short enough for their own precision, their sum is in double."""
    rows: Tensor = torch.linalg.vecdot(m_BO, m_BO)
    return rows.sum(dtype=torch.float64)


def _squares(m_BO: Tensor, layers: int) -> Tensor:
    """[L], Σ‖row‖² of each layer's part."""
    parts_BLD = m_BO.view(len(m_BO), layers, -1)
    squares_BL: Tensor = torch.linalg.vecdot(parts_BLD, parts_BLD)
    return squares_BL.sum(0, dtype=torch.float64)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else float("nan")
