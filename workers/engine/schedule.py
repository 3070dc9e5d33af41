"""What changes from step to step: the learning rate and the weight of the penalty."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .config import Plan

# The controller of ENGINE.md: steps the L0 is averaged over, and how fast the weight may move.
_AVERAGED_STEPS = 10
_GAIN = 0.02
_SMALLEST, _LARGEST = 1e-8, 10.0


def learning_rate(plan: Plan, step: int) -> float:
    """The rate of step 1 … num_steps: linear warm-up, constant, linear decay towards zero."""
    h = plan.hyperparameters
    warmup = min(1.0, step / max(1, plan.lr_warmup_steps))
    left = h.num_steps - step + 1
    decay = min(1.0, left / plan.lr_decay_steps) if plan.lr_decay_steps else 1.0
    return h.learning_rate * warmup * decay


class Penalty:
    """The weight of the L1 or L0 penalty: warmed up, then steered to `target_l0` if there is one.

    After the warm-up a controller multiplies the weight by exp(0.02 · clamp(log(L0/target), −1, 1))
    per step, on an L0 averaged over ten steps. Nothing leaves the device.
    """

    def __init__(self, plan: Plan, kind: str | None, device: torch.device) -> None:
        h = plan.hyperparameters
        base = {"l1": h.l1_alpha, "l0": h.l0_alpha, None: 0.0}[kind]
        self._active = kind is not None
        self._target = h.target_l0 if self._active else None
        self._warmup = plan.sparsity_warmup_steps
        self._weight = torch.tensor(base, dtype=torch.float64, device=device)
        self._recent = torch.zeros(_AVERAGED_STEPS, dtype=torch.float64, device=device)
        self._seen = 0

    def coefficient(self, step: int) -> Tensor:
        """The weight in step 1 … num_steps, a float32 scalar on the device."""
        warmed = min(1.0, step / self._warmup) if self._warmup else 1.0
        return (self._weight * warmed).float()

    def observe(self, step: int, l0: Tensor) -> None:
        """Tell the L0 of a finished step."""
        self._recent[self._seen % _AVERAGED_STEPS] = l0
        self._seen += 1
        if self._target is None or step < self._warmup or self._seen < _AVERAGED_STEPS:
            return
        ratio = (self._recent.mean() / self._target).clamp_min(1e-6)
        self._weight.mul_(ratio.log().clamp_(-1, 1).mul_(_GAIN).exp_())
        self._weight.clamp_(_SMALLEST, _LARGEST)

    def read(self, step: int) -> float | None:
        """The weight for people; null where there is no penalty. Waits for the device."""
        return float(self.coefficient(step)) if self._active else None

    def limit(self) -> str | None:
        """Which end of its range the controller has driven the weight to; waits for the device."""
        if self._target is None:
            return None
        weight = float(self._weight)
        return {_SMALLEST: "lower", _LARGEST: "upper"}.get(weight)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {"weight": self._weight, "recent": self._recent}, {"seen": self._seen}

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        self._weight.copy_(tensors["weight"])
        self._recent.copy_(tensors["recent"])
        self._seen = numbers["seen"]
