"""The dense products of a step: the encoder's always, the others where many latents are active.

Weights, losses and gradients stay in the weights' dtype; `Products` says what is multiplied in.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..ranks import ALONE, Ranks
from .step import Step, Weights

# Share of active pairs from which on dense products are faster (docs/performance.md).
_BREAK_EVEN = {torch.bfloat16: 0.07, torch.float32: 0.15}
# Rows are worked on in blocks of so many bytes on a processor: what lies between the products
# then stays in its cache, and in memory that is used again.
BLOCK_BYTES = 16 * 1024 * 1024


class Products:
    """How a step multiplies: in `dtype` (None: the weights' own), the largest product in place.

    The weights may be those of this rank's latents alone; `ranks` adds up what all of them give.
    bfloat16 is for hardware that multiplies it faster. The pre-activations of a step are written
    over those of the step before: clearing that much fresh memory takes a sixth of the product.
    """

    def __init__(self, dtype: torch.dtype | None = None, ranks: Ranks = ALONE) -> None:
        self.dtype, self.ranks = dtype, ranks
        self._pre_BF: Tensor | None = None

    def pre_activations(self, w: Weights, x_BD: Tensor) -> Tensor:
        """W_enc x + b_enc, [B, F]; valid until the next call."""
        dtype = self.dtype or x_BD.dtype
        shape = (len(x_BD), len(w["b_enc"]))
        if self._pre_BF is None or self._pre_BF.shape != shape or self._pre_BF.dtype != dtype:
            self._pre_BF = torch.empty(shape, dtype=dtype, device=x_BD.device)
        b_F, x, W_DF = w["b_enc"].to(dtype), x_BD.to(dtype), w["W_enc"].to(dtype).T
        return torch.addmm(b_F, x, W_DF, out=self._pre_BF)

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """a @ b, in the dtype they have."""
        dtype = self.dtype or a.dtype
        return (a.to(dtype) @ b.to(dtype)).to(a.dtype)

    def worth_sparse(self, x_BD: Tensor) -> float:
        """The largest share of active pairs at which a sparse step is the faster one.

        On a GPU none is: to know the pairs' number the host would have to wait for it.
        """
        return -1.0 if x_BD.is_cuda else _BREAK_EVEN.get(self.dtype or x_BD.dtype, 0.15)


def pre_activations(w: Weights, x_BD: Tensor) -> Tensor:
    """W_enc x + b_enc, [B, F], in the weights' dtype."""
    return torch.addmm(w["b_enc"], x_BD, w["W_enc"].T)


class DenseStep:
    """Sums over the row blocks of a dense step.

    For each of `blocks`: `residual` from the block's z, then `add` its z and ∂L/∂pre.
    """

    def __init__(self, w: Weights, x_BD: Tensor, t_BO: Tensor, ranks: Ranks = ALONE) -> None:
        self._w, self._x_BD, self._ranks = w, x_BD, ranks
        self._b_O, self._t_BO = ranks.once(w["b_dec"]), ranks.once(t_BO)
        self._gradients = {name: torch.zeros_like(w[name]) for name in ("W_enc", "b_enc", "W_dec")}
        self._residual_BO = torch.empty_like(t_BO)
        self._fired_F = torch.zeros(len(w["b_enc"]), dtype=torch.int64, device=x_BD.device)
        self.l1 = x_BD.new_zeros(())

    def blocks(self, pre_BF: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Row ranges and their pre-activations; of several ranks one range, summed up at once."""
        B, F = pre_BF.shape
        whole = pre_BF.is_cuda or not self._ranks.alone
        rows = B if whole else max(1, BLOCK_BYTES // (F * pre_BF.element_size()))
        for start in range(0, B, rows):
            block = slice(start, min(start + rows, B))
            yield block, pre_BF[block]

    def latent_gradients(self, block: slice, z_RF: Tensor) -> Tensor:
        """∂MSE/∂z of the block's pairs, in z's dtype; keeps the block's residual."""
        W_dec = self._w["W_dec"].to(z_RF.dtype)
        residual_RO = self._residual_BO[block]
        torch.sub(z_RF @ W_dec + self._b_O, self._t_BO[block], out=residual_RO)
        self._ranks.sum(residual_RO)
        return self._gradient(block).to(z_RF.dtype) @ W_dec.T

    def add(self, block: slice, z_RF: Tensor, dpre_RF: Tensor, active_RF: Tensor) -> None:
        """Add what the block contributes to the weights' gradients and to the counts."""
        _add_product(self._gradients["W_enc"], dpre_RF.T, self._x_BD[block])
        _add_product(self._gradients["W_dec"], z_RF.T, self._gradient(block))
        self._gradients["b_enc"] += dpre_RF.sum(0, dtype=self._x_BD.dtype)
        self._fired_F += active_RF.sum(0)
        self.l1 += z_RF.sum(dtype=self._x_BD.dtype) / len(self._x_BD)

    @property
    def l0(self) -> Tensor:
        return self._fired_F.sum(dtype=self.l1.dtype) / len(self._x_BD)

    def step(self, penalty: Tensor, **gradients: Tensor) -> Step:
        """The whole; `penalty` is added to the MSE, `gradients` are those of further weights."""
        mse = self._residual_BO.square().mean()
        b_dec = self._gradient(slice(None)).sum(0)
        return Step(
            gradients={**self._gradients, "b_dec": b_dec, **gradients},
            loss=mse + penalty,
            reconstruction_loss=mse,
            residual_BO=self._residual_BO,
            l0=self.l0,
            l1=self.l1,
            fired_F=self._fired_F,
        )

    def _gradient(self, block: slice) -> Tensor:
        """∂MSE/∂residual."""
        return self._residual_BO[block] * (2 / self._residual_BO.numel())


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    if a.dtype == total.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b.to(a.dtype)
