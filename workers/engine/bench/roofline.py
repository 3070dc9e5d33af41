"""The least time that a step's floor takes on a GPU by its maker's figures."""

from __future__ import annotations

from dataclasses import dataclass

import torch

# Adam reads weight, gradient and two moments in float32, and writes all but the gradient.
_ADAM_BYTES = 4 * 4 + 3 * 4


@dataclass(frozen=True)
class Peak:
    """What a GPU does at most: bfloat16 operations and bytes of memory per second."""

    operations: float
    bytes: float


# NVIDIA's data sheets *H100 Tensor Core GPU* and *H200 Tensor Core GPU*, bfloat16 without sparsity
# (the sheets print twice that, with it), and *GPU memory bandwidth*; by the name the driver gives.
PEAKS = {
    "NVIDIA H100 80GB HBM3": Peak(989.5e12, 3.35e12),
    "NVIDIA H100 PCIe": Peak(756.5e12, 2.0e12),
    "NVIDIA H200": Peak(989.5e12, 4.8e12),
}


def roofline_seconds(peak: Peak, B: int, D: int, F: int) -> float:
    """Of the encoder's product for B tokens, then Adam over all weights; they do not overlap."""
    weights = 2 * D * F + F + D
    return 2 * B * D * F / peak.operations + weights * _ADAM_BYTES / peak.bytes


def peak_of(device: torch.device) -> Peak | None:
    """None for a processor, and for a GPU whose figures are not known here."""
    return PEAKS.get(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
