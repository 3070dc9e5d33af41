"""BatchTopK whose first latents must explain the whole (Bussmann et al. 2025, arXiv 2503.17547).

    z = BatchTopK(W_enc x + b_enc) over all F latents, as in `batch.py`
    x̂_g = z[:m_g] W_dec[:m_g] + b_dec                    for prefixes m_1 < … < m_G = F
    loss = 1/G Σ_g MSE(x̂_g, x) + auxk_alpha · MSE(ê, e)

e is what the longest prefix leaves over. The mean and not the sum of the prefixes' losses, so that
the loss is of an MSE's size whatever their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..ranks import Ranks
from . import topk
from .batch import TopOfBatch
from .pairs import Pairs
from .step import Step, Weights


@dataclass(frozen=True, kw_only=True)
class Nested(TopOfBatch):
    """`ends` are the lengths of the prefixes; the last is the number of latents.

    Of a rank's latents they are how many lie in each prefix, which may be none or all.
    """

    ends: tuple[int, ...]

    def step_of(
        self,
        w: Weights,
        x_BD: Tensor,
        t_BO: Tensor,
        pre_BF: Tensor,
        kept: Pairs,
        pre_N: Tensor,
        dead: Tensor | None,
        ranks: Ranks,
    ) -> Step:
        z_N = pre_N.relu_()
        residuals = _residuals(kept, z_N, w, t_BO, self.ends, ranks)
        gradients, fired_F = _gradients(kept, z_N, w, x_BD, residuals, self.ends)
        mean_squares = torch.stack([residual_BO.square().mean() for residual_BO in residuals])
        loss, residual_BO = mean_squares.mean(), residuals[-1]
        if dead is not None and self.auxk_alpha > 0:
            loss = loss + topk.add_auxiliary(
                gradients, w, x_BD, pre_BF, residual_BO, dead, self.auxk_alpha, ranks
            )
        return Step(
            gradients=gradients,
            loss=loss,
            reconstruction_loss=mean_squares[-1],
            l0=(z_N > 0).sum() / len(x_BD),
            l1=z_N.sum() / len(x_BD),
            residual_BO=residual_BO,
            fired_F=fired_F,
        )


def doubling(n_latents: int, groups: int) -> tuple[int, ...]:
    """Lengths of so many prefixes, each twice as long as the one before, the last of all."""
    return tuple(n_latents >> halvings for halvings in reversed(range(groups)))


def within(ends: Sequence[int], latents: slice) -> tuple[int, ...]:
    """How many of these latents lie in each prefix."""
    return tuple(max(0, min(end, latents.stop) - latents.start) for end in ends)


def _residuals(
    kept: Pairs, z_N: Tensor, w: Weights, t_BO: Tensor, ends: Sequence[int], ranks: Ranks
) -> list[Tensor]:
    """x̂_g − t of every prefix: what its last block of latents adds to the one before."""
    residuals: list[Tensor] = []
    b_O = w["b_dec"]
    for first, last in zip((0, *ends), ends, strict=False):
        block, inside_N = kept.block(first, last)
        of_block = {"W_dec": w["W_dec"][first:last], "b_dec": b_O}
        residual_BO, _ = block.reconstruct(z_N[inside_N], of_block, t_BO, ranks)
        residuals.append(residual_BO)
        t_BO, b_O = -residual_BO, torch.zeros_like(b_O)
    return residuals


def _gradients(
    kept: Pairs, z_N: Tensor, w: Weights, x_BD: Tensor, residuals: list[Tensor], ends: Sequence[int]
) -> tuple[Weights, Tensor]:
    """A block of latents is in its own prefix and in all longer ones: it has their sum's gradient.

    Block by block into memory for all of them, from the last one on.
    """
    gradients = {name: torch.empty_like(w[name]) for name in ("W_enc", "b_enc", "W_dec")}
    fired_F = torch.empty(kept.n_latents, dtype=torch.int64, device=x_BD.device)
    scale = 2 / (len(residuals) * residuals[0].numel())
    g_BO = torch.zeros_like(residuals[0])
    for first, last, residual_BO in zip(
        (0, *ends)[-2::-1], ends[::-1], residuals[::-1], strict=True
    ):
        g_BO = g_BO.add(residual_BO, alpha=scale)
        block, inside_N = kept.block(first, last)
        some_N = z_N[inside_N]
        dpre_N = block.sample(g_BO, w["W_dec"][first:last]).mul_(some_N > 0)
        of_block, fired_F[first:last] = block.gradients(some_N, dpre_N, x_BD, g_BO)
        for name, gradient in gradients.items():
            gradient[first:last] = of_block[name]
    return gradients | {"b_dec": g_BO.sum(0)}, fired_F
