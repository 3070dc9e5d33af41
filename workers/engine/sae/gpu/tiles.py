"""Sizes of the blocks that one program of a kernel works on.

Three stages of two bfloat16 operands take 96 KiB of shared memory, which every device from
compute capability 8.0 on has. Tuned on an H100: see docs/performance.md.
"""

from __future__ import annotations

from typing import Any

import torch

TOKENS = 128  # of a tile of [B, F]; products have tiles of the same size
LATENTS = 128
DEPTH_BYTES = 128  # of a row of an operand, multiplied at once
STRIP = 16  # tokens of a tile whose pairs are listed together
STRIP_WARPS = 2
WIDTH = 1024  # of a row that is gathered
PAIRS = 2  # gathered together, so that their loads overlap
SAMPLE_WIDTH, SAMPLE_PAIRS = 512, 4  # the same where each row is multiplied by a token's own
SELECTING = 4  # tokens that TopK looks at in one program
SELECTED = 2048  # pre-activations of a token that TopK looks at together
ROW = 4096  # of a row of weights


def product_options(dtype: torch.dtype) -> dict[str, Any]:
    """Launch options of a kernel that multiplies tiles of this dtype."""
    return {"DEPTH": max(16, DEPTH_BYTES // dtype.itemsize), "num_warps": 8, "num_stages": 3}


def count(length: int, size: int) -> int:
    """Blocks of `size` that cover `length`."""
    return -(-length // size)
