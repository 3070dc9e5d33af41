"""The training step of every activation on the device, from the encoder to the gradients.

Every number the host would need to know, how many pairs are active above all, stays on the device:
lists have room for as many pairs as are worth listing, and a batch with more of them is computed
over all pairs in the same step. So the result depends on the batch alone, and the host never waits.

Operands of products are in `dtype`; sums, biases, losses and gradients are in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...ranks import ALONE, Ranks
from ..step import Step, Weights, mean_square
from . import by_latent, dense
from .auxiliary import add_auxiliary
from .compact import Pairs, compact
from .decode import decode
from .encode import Tally, encode, tally
from .rule import Rule
from .sample import sample
from .select import select

# Share of all pairs from which on the dense kernels are faster (docs/performance.md).
WORTH_SPARSE = 1 / 100


def relu(
    w: Weights,
    x_BD: Tensor,
    t_BO: Tensor,
    l1_alpha: Tensor,
    dtype: torch.dtype | None,
    ranks: Ranks = ALONE,
) -> Step:
    """Equal to `relu.dense_step`."""
    rule, x = Rule.relu(x_BD.device), x_BD.to(dtype or x_BD.dtype)
    pre_BF, counts = encode(w, x, rule)
    return _threshold_step(w, x, t_BO, pre_BF, counts, rule, l1_alpha, ranks)


def jump(
    w: Weights,
    x_BD: Tensor,
    t_BO: Tensor,
    l0_alpha: Tensor,
    bandwidth: float,
    dtype: torch.dtype | None,
    ranks: Ranks = ALONE,
) -> Step:
    """Equal to `jump.dense_step`."""
    rule, x = Rule.jump(w["threshold"], bandwidth), x_BD.to(dtype or x_BD.dtype)
    pre_BF, counts = encode(w, x, rule)
    return _threshold_step(w, x, t_BO, pre_BF, counts, rule, l0_alpha, ranks)


def topk(
    w: Weights,
    x_BD: Tensor,
    t_BO: Tensor,
    pre_BF: Tensor,
    k: int,
    dead: Tensor | None,
    auxk_alpha: float,
) -> Step:
    """Equal to `topk.step`; of `dead` only what is below F counts. `pre_BF` is used up."""
    B, F = pre_BF.shape
    x, W_dec = x_BD.to(pre_BF.dtype), w["W_dec"].to(pre_BF.dtype)
    floor_F = torch.zeros(F, device=x.device)
    rule = select(pre_BF, floor_F, torch.full((1,), k, dtype=torch.int32, device=x.device))
    counts = tally(pre_BF, rule)
    pairs = compact(pre_BF, counts, rule, room=B * k)
    residual_BO = torch.empty_like(t_BO)
    decode(pairs, W_dec, w["b_dec"], t_BO, residual_BO)
    mse, g_BO = mean_square(residual_BO)
    gradients = _gradients(w, x, g_BO, W_dec, pairs, rule, torch.zeros_like(mse))
    loss = mse
    if dead is not None and auxk_alpha > 0:
        loss = mse + add_auxiliary(gradients, x, W_dec, pre_BF, residual_BO, dead, auxk_alpha)
    fired_F, l0, l1 = _means(counts, B)
    return Step(gradients, loss, mse, l0, l1, residual_BO, fired_F)


def _threshold_step(
    w: Weights,
    x: Tensor,
    t_BO: Tensor,
    pre_BF: Tensor,
    counts: Tally,
    rule: Rule,
    coefficient: Tensor,
    ranks: Ranks,
) -> Step:
    """A step whose number of active pairs is known to nobody before it. `pre_BF` is used up."""
    B, F = pre_BF.shape
    W_dec, penalty = w["W_dec"].to(x.dtype), coefficient / B
    pairs = compact(pre_BF, counts, rule, room=int(B * F * WORTH_SPARSE))
    residual_BO, b_O, t_BO = torch.empty_like(t_BO), ranks.once(w["b_dec"]), ranks.once(t_BO)
    decode(pairs, W_dec, b_O, t_BO, residual_BO)
    dense.decode(pairs.overflow, pre_BF, rule, W_dec, b_O, t_BO, residual_BO)
    ranks.sum(residual_BO)
    mse, g_BO = mean_square(residual_BO)
    gradients = _gradients(w, x, g_BO, W_dec, pairs, rule, penalty)
    _write_dense(gradients, x, g_BO.to(x.dtype), W_dec, pre_BF, pairs.overflow, rule, penalty)
    fired_F, l0, l1 = _means(counts, B)
    loss = mse + coefficient * (l0 if rule.jumps else l1)
    return Step(gradients, loss, mse, l0, l1, residual_BO, fired_F)


def _gradients(
    w: Weights,
    x: Tensor,
    g_BO: Tensor,
    W_dec: Tensor,
    pairs: Pairs,
    rule: Rule,
    penalty: Tensor,
) -> Weights:
    """From the listed pairs; where they overflowed, memory for `_write_dense` to fill."""
    gradients = {name: torch.empty_like(w[name]) for name in w if name != "b_dec"}
    gradients["b_dec"] = g_BO.sum(0)
    g = g_BO.to(x.dtype)
    dpre_N, jump_N = sample(pairs, rule, g, W_dec, penalty)
    by_latent.product(pairs, pairs.z, g, gradients["W_dec"])
    by_latent.product(pairs, dpre_N, x, gradients["W_enc"])
    by_latent.sums(pairs, dpre_N, gradients["b_enc"])
    if rule.jumps:
        by_latent.sums(pairs, jump_N, gradients["threshold"])
        gradients["threshold"].neg_()
    return gradients


def _write_dense(
    gradients: Weights,
    x: Tensor,
    g: Tensor,
    W_dec: Tensor,
    pre_BF: Tensor,
    overflow: Tensor,
    rule: Rule,
    penalty: Tensor,
) -> None:
    """The same gradients over all pairs, where their lists overflowed."""
    dense.decoder_gradient(overflow, pre_BF, rule, g, gradients["W_dec"])
    b_enc_F, jump_F = dense.sample(overflow, pre_BF, rule, g, W_dec, penalty)
    dense.encoder_gradient(overflow, pre_BF, rule, x, gradients["W_enc"])
    overflowed = overflow > 0
    gradients["b_enc"] = torch.where(overflowed, b_enc_F, gradients["b_enc"])
    if rule.jumps:
        gradients["threshold"] = torch.where(overflowed, -jump_F, gradients["threshold"])


def _means(counts: Tally, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """Firings of each latent, L0 and L1."""
    fired_F = counts.fired.sum(1)
    return fired_F, fired_F.sum() / tokens, counts.l1.sum() / tokens
