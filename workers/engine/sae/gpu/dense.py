"""The same step over all pairs, for a batch with too many active ones.

Whether a batch is such is known on the device alone, so these kernels are launched at every step
and return at once where `wanted` is 0. `pre` is written over by its own gradient: no second matrix
of that size is needed.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import tiles
from .rule import Rule, activity, slope

PLAIN = tl.constexpr(-1)  # in place of a rule's kind: the left operand is taken as it is


def decode(
    wanted: Tensor, pre_BF: Tensor, rule: Rule, W_FO: Tensor, b_O: Tensor, t_BO: Tensor, out: Tensor
) -> None:
    """Write the residual z W_dec + b_dec − t to `out` [B, O]."""
    _launch(wanted, pre_BF, W_FO, out, rule, rule.kind, residual=(b_O, t_BO))


def decode_reference(pre_BF: Tensor, rule: Rule, W_FO: Tensor, b_O: Tensor, t_BO: Tensor) -> Tensor:
    return (pre_BF.float() * rule.active(pre_BF)) @ W_FO.float() + b_O - t_BO


def decoder_gradient(
    wanted: Tensor, pre_BF: Tensor, rule: Rule, g_BO: Tensor, out: Tensor, add: bool = False
) -> None:
    """Write zᵀ g to `out` [F, O], or add it."""
    _launch(wanted, pre_BF, g_BO, out, rule, rule.kind, transposed=True, add=add)


def decoder_gradient_reference(pre_BF: Tensor, rule: Rule, g_BO: Tensor) -> Tensor:
    return (pre_BF.float() * rule.active(pre_BF)).T @ g_BO.float()


def encoder_gradient(
    wanted: Tensor, dpre_BF: Tensor, rule: Rule, x_BD: Tensor, out: Tensor, add: bool = False
) -> None:
    """Write (∂L/∂pre)ᵀ x to `out` [F, D], or add it."""
    _launch(wanted, dpre_BF, x_BD, out, rule, PLAIN.value, transposed=True, add=add)


def encoder_gradient_reference(dpre_BF: Tensor, x_BD: Tensor) -> Tensor:
    return dpre_BF.float().T @ x_BD.float()


def sample(
    wanted: Tensor, pre_BF: Tensor, rule: Rule, g_BO: Tensor, W_FO: Tensor, penalty: Tensor
) -> tuple[Tensor, Tensor]:
    """Write ∂L/∂pre over `pre_BF`; its sums by latent [F], and those of what crosses the jump."""
    (B, F), D_OUT = pre_BF.shape, g_BO.shape[1]
    R = tiles.count(B, tiles.TOKENS)
    dpre_RF = torch.empty(R, F, device=pre_BF.device)
    jump_RF = torch.empty_like(dpre_RF) if rule.jumps else dpre_RF
    _sample[(R * tiles.count(F, tiles.LATENTS),)](
        wanted,
        g_BO,
        W_FO,
        pre_BF,
        dpre_RF,
        jump_RF,
        penalty,
        *rule.arguments(),
        B,
        D_OUT,
        F,
        KIND=rule.kind,
        JUMPS=rule.jumps,
        TOKENS=tiles.TOKENS,
        LATENTS=tiles.LATENTS,
        **tiles.product_options(g_BO.dtype),
    )
    return dpre_RF.sum(0), jump_RF.sum(0)


def sample_reference(
    pre_BF: Tensor, rule: Rule, g_BO: Tensor, W_FO: Tensor, penalty: Tensor
) -> tuple[Tensor, Tensor]:
    """∂L/∂pre and what crosses the jump, both [B, F]."""
    return rule.slope(g_BO.float() @ W_FO.float().T, pre_BF, float(penalty))


def _launch(
    wanted: Tensor,
    a: Tensor,
    b_KN: Tensor,
    out_MN: Tensor,
    rule: Rule,
    kind: int,
    transposed: bool = False,
    add: bool = False,
    residual: tuple[Tensor, Tensor] | None = None,
) -> None:
    """Write or add z(a) b to `out_MN`; `residual` are a bias to add and a target to subtract."""
    (M, N), K = out_MN.shape, len(b_KN)
    grid = (tiles.count(M, tiles.TOKENS) * tiles.count(N, tiles.LATENTS),)
    bias, target = residual or (out_MN, out_MN)
    _product[grid](
        wanted,
        a,
        b_KN,
        out_MN,
        bias,
        target,
        *rule.arguments(),
        M,
        N,
        K,
        KIND=kind,
        TRANSPOSED=transposed,
        RESIDUAL=residual is not None,
        ADD=add,
        ROWS=tiles.TOKENS,
        COLUMNS=tiles.LATENTS,
        **tiles.product_options(b_KN.dtype),
    )


@triton.jit
def _product(
    wanted_ptr,
    a_ptr,
    b_ptr,
    out_ptr,
    bias_ptr,
    target_ptr,
    floor_ptr,
    cut_ptr,
    last_ptr,
    bandwidth,
    M,
    N,
    K,
    KIND: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    RESIDUAL: tl.constexpr,
    ADD: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """out [M, N] = z(a) [M, K] b [K, N]; transposed, a lies in memory as [K, M]."""
    if tl.load(wanted_ptr) == 0:
        return
    down = tl.cdiv(M, ROWS)
    m = (tl.program_id(0) % down * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    n = (tl.program_id(0) // down * COLUMNS + tl.arange(0, COLUMNS)).to(tl.int64)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, K, DEPTH):
        k = (start + tl.arange(0, DEPTH)).to(tl.int64)
        inside = (m < M)[:, None] & (k < K)[None, :]
        where = k[None, :] * M + m[:, None] if TRANSPOSED else m[:, None] * K + k[None, :]
        a = tl.load(a_ptr + where, mask=inside, other=0.0)
        if KIND != PLAIN:
            pre = a.to(tl.float32)
            if TRANSPOSED:
                _, active = activity(
                    pre, k[None, :], m[:, None], K, M, floor_ptr, cut_ptr, last_ptr, bandwidth,
                    KIND,
                )  # fmt: skip
            else:
                _, active = activity(
                    pre, m[:, None], k[None, :], M, K, floor_ptr, cut_ptr, last_ptr, bandwidth,
                    KIND,
                )  # fmt: skip
            a = tl.where(active, a, 0.0).to(a_ptr.dtype.element_ty)
        mask = (k < K)[:, None] & (n < N)[None, :]
        b = tl.load(b_ptr + k[:, None] * N + n[None, :], mask=mask, other=0.0)
        total = tl.dot(a, b, total, input_precision="ieee")
    inside = (m < M)[:, None] & (n < N)[None, :]
    where = m[:, None] * N + n[None, :]
    if RESIDUAL:
        total += tl.load(bias_ptr + n, mask=n < N, other=0.0)[None, :]
        total -= tl.load(target_ptr + where, mask=inside, other=0.0)
    if ADD:
        total += tl.load(out_ptr + where, mask=inside, other=0.0)
    tl.store(out_ptr + where, total, mask=inside)


@triton.jit
def _sample(
    wanted_ptr,
    g_ptr,
    W_ptr,
    pre_ptr,
    dpre_sums_ptr,
    jump_sums_ptr,
    penalty_ptr,
    floor_ptr,
    cut_ptr,
    last_ptr,
    bandwidth,
    B,
    D_OUT,
    F,
    KIND: tl.constexpr,
    JUMPS: tl.constexpr,
    TOKENS: tl.constexpr,
    LATENTS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    if tl.load(wanted_ptr) == 0:
        return
    down = tl.cdiv(B, TOKENS)
    r = tl.program_id(0) % down
    token = (r * TOKENS + tl.arange(0, TOKENS)).to(tl.int64)
    latent = (tl.program_id(0) // down * LATENTS + tl.arange(0, LATENTS)).to(tl.int64)
    dz = tl.zeros((TOKENS, LATENTS), tl.float32)
    for start in range(0, D_OUT, DEPTH):
        o = start + tl.arange(0, DEPTH)
        g_mask = (token < B)[:, None] & (o < D_OUT)[None, :]
        g = tl.load(g_ptr + token[:, None] * D_OUT + o[None, :], mask=g_mask, other=0.0)
        W_mask = (o < D_OUT)[:, None] & (latent < F)[None, :]
        W = tl.load(W_ptr + latent[None, :] * D_OUT + o[:, None], mask=W_mask, other=0.0)
        dz = tl.dot(g, W, dz, input_precision="ieee")
    inside = (token < B)[:, None] & (latent < F)[None, :]
    where = token[:, None] * F + latent[None, :]
    pre = tl.load(pre_ptr + where, mask=inside, other=0.0).to(tl.float32)
    _, active = activity(
        pre, token[:, None], latent[None, :], B, F, floor_ptr, cut_ptr, last_ptr, bandwidth, KIND
    )
    penalty = tl.load(penalty_ptr)
    dpre, jump = slope(
        dz, pre, active, latent[None, :], F, inside, penalty, floor_ptr, bandwidth, KIND
    )
    tl.store(pre_ptr + where, dpre.to(pre_ptr.dtype.element_ty), mask=inside)
    tl.store(dpre_sums_ptr + r.to(tl.int64) * F + latent, tl.sum(dpre, 0), mask=latent < F)
    if JUMPS:
        tl.store(jump_sums_ptr + r.to(tl.int64) * F + latent, tl.sum(jump, 0), mask=latent < F)
