"""What an activation must offer; `relu.py`, `jump.py`, `topk.py` and `batch.py` do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from .dense import Products
from .step import Step, Weights


class Activation(ABC):
    """Functions over weights and data, and what some of them carry from step to step.

    `penalty` is what its coefficient weighs. `running` are tensors that `observe` changes and no
    gradient does; they are part of a checkpoint.
    """

    penalty: ClassVar[str | None]
    running: Weights = {}

    def observe(self, seen: Weights) -> None:  # noqa: B027 (most carry nothing)
        """Take in what a finished step has `seen`; the step itself changes nothing."""

    def inference(self, w: Weights) -> Weights:
        """The ReLU or JumpReLU that gives the same latents once trained.

        W_enc [F, D], b_enc [F] and, where a latent must exceed more than zero, threshold [F].
        """
        return {name: w[name] for name in ("W_enc", "b_enc", "threshold") if name in w}

    @abstractmethod
    def latents(self, w: Weights, x_BD: Tensor) -> Tensor:
        """z [B, F], as once trained"""

    @abstractmethod
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
