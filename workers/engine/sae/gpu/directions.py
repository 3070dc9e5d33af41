"""What keeps W_dec's rows of unit length, one program for each row, which is read once."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import tiles


def remove_parallel(g_FO: Tensor, W_FO: Tensor) -> None:
    """Take g's part along W out of each row, in place; rows of W have unit length."""
    _remove_parallel[(len(W_FO),)](g_FO, W_FO, W_FO.shape[1], **_options(W_FO))


def remove_parallel_reference(g_FO: Tensor, W_FO: Tensor) -> Tensor:
    return g_FO - (g_FO * W_FO).sum(1, keepdim=True) * W_FO


def normalize(W_FO: Tensor) -> None:
    """Divide each row by its length, in place; a row of zeros stays one."""
    _normalize[(len(W_FO),)](W_FO, W_FO.shape[1], **_options(W_FO))


def normalize_reference(W_FO: Tensor) -> Tensor:
    return torch.nn.functional.normalize(W_FO, dim=1)


def _options(W_FO: Tensor) -> dict[str, int]:
    width = min(tiles.ROW, triton.next_power_of_2(W_FO.shape[1]))
    return {"WIDTH": width, "num_warps": 4}


@triton.jit
def _remove_parallel(g_ptr, W_ptr, O, WIDTH: tl.constexpr):  # noqa: E741
    row = tl.program_id(0).to(tl.int64) * O
    products = tl.zeros((WIDTH,), tl.float32)
    for start in range(0, O, WIDTH):
        o = start + tl.arange(0, WIDTH)
        g = tl.load(g_ptr + row + o, mask=o < O, other=0.0)
        products += g * tl.load(W_ptr + row + o, mask=o < O, other=0.0)
    parallel = tl.sum(products)
    for start in range(0, O, WIDTH):
        o = start + tl.arange(0, WIDTH)
        g = tl.load(g_ptr + row + o, mask=o < O, other=0.0)
        g -= parallel * tl.load(W_ptr + row + o, mask=o < O, other=0.0)
        tl.store(g_ptr + row + o, g, mask=o < O)


@triton.jit
def _normalize(W_ptr, O, WIDTH: tl.constexpr):  # noqa: E741
    row = tl.program_id(0).to(tl.int64) * O
    squares = tl.zeros((WIDTH,), tl.float32)
    for start in range(0, O, WIDTH):
        o = start + tl.arange(0, WIDTH)
        W = tl.load(W_ptr + row + o, mask=o < O, other=0.0)
        squares += W * W
    length = tl.maximum(tl.sqrt(tl.sum(squares)), 1e-12)
    for start in range(0, O, WIDTH):
        o = start + tl.arange(0, WIDTH)
        W = tl.load(W_ptr + row + o, mask=o < O, other=0.0)
        tl.store(W_ptr + row + o, W / length, mask=o < O)
