"""What an activation must offer; `relu.py`, `jump.py` and `topk.py` do."""

from __future__ import annotations

from typing import ClassVar, Protocol

from torch import Tensor

from .dense import Products
from .step import Step, Weights


class Activation(Protocol):
    """Pure functions over weights and data. `penalty` is what its coefficient weighs."""

    penalty: ClassVar[str | None]

    def latents(self, w: Weights, x_BD: Tensor) -> Tensor:
        """z [B, F]"""

    def step(
        self,
        w: Weights,
        x_BD: Tensor,
        t_BO: Tensor,
        coefficient: Tensor,
        dead: Tensor | None,
        products: Products,
    ) -> Step:
        """Loss of `z W_dec + b_dec` against t and its gradients.

        `coefficient` is the penalty's present weight, a scalar on the device; `dead` are the
        indices of dead latents as `DeadLatents.indices` gives them, or None.
        """
