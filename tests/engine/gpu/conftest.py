"""Where kernels run: in Triton's interpreter on the processor, or on a CUDA device."""

from __future__ import annotations

import os

import pytest
import torch

pytest.importorskip("triton")

from workers.engine.sae import gpu
from workers.engine.sae.gpu import tiles

# Small enough that toy shapes take several tiles in every direction.
SMALL = {
    "TOKENS": 16,
    "LATENTS": 16,
    "DEPTH_BYTES": 32,
    "STRIP": 8,
    "WIDTH": 16,
    "PAIRS": 16,
    "SAMPLE_WIDTH": 16,
    "SAMPLE_PAIRS": 16,
    "SELECTING": 16,
    "SELECTED": 64,
    "ROW": 8,
}


@pytest.fixture(
    params=[
        pytest.param("cpu", id="interpreted"),
        pytest.param("cuda", id="on the device", marks=pytest.mark.gpu),
    ]
)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Steps there go through the kernels, with small tiles."""
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    if interpreted != (request.param == "cpu"):
        pytest.skip("TRITON_INTERPRET says to run the kernels elsewhere")
    monkeypatch.setattr(gpu, "usable", lambda device: True)
    for name, size in SMALL.items():
        monkeypatch.setattr(tiles, name, size)
    return torch.device(request.param)


def needs_bfloat16_products(device: torch.device) -> None:
    """Triton 3.9's interpreter multiplies the bits of bfloat16 as if they were integers."""
    if device.type == "cpu":
        pytest.skip("the interpreter cannot multiply bfloat16")
