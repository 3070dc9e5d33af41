"""What changes from step to step: the learning rate and the weight of the penalty."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .config import Plan

# The controller: steps the L0 is averaged over, how fast the weight may move, and how many steps
# ahead it looks. More than these would swing where L0 answers at once, as under L1.
_AVERAGED_STEPS = 10
_GAIN, _LEAD_STEPS = 0.02, 20
# The weight moves where the penalty is between these shares of the reconstruction loss; at its best
# a penalty is of the loss's own size (−dMSE/dlogL0). Below, a smaller weight changes nothing more,
# and beyond either end the controller would wind up and come back far too late. So there it only
# moves inwards, and this fast if L0 asks for it. L0 has to ask: where latents have died the share
# is small as well, and a larger weight would bury the rest.
_LEAST, _MOST = 0.03, 30.0
_BACK_RATE = 0.1  # of the weight's logarithm, per step
_SMALLEST, _LARGEST = 1e-8, 10.0
# It stands at a limit when it was held there for so many steps.
_HELD_STEPS = 200


def learning_rate(plan: Plan, step: int) -> float:
    """The rate of step 1 … num_steps: linear warm-up, constant, linear decay towards zero."""
    h = plan.hyperparameters
    warmup = min(1.0, step / max(1, plan.lr_warmup_steps))
    left = h.num_steps - step + 1
    decay = min(1.0, left / plan.lr_decay_steps) if plan.lr_decay_steps else 1.0
    return h.learning_rate * warmup * decay


class Penalty:
    """The weight of the L1 or L0 penalty: warmed up, then steered to `target_l0` if there is one.

    After the warm-up a controller multiplies the weight by exp(0.02 · (e + 20 · ė)) per step, where
    e = clamp(log(L0 / target), −1, 1) on an L0 averaged over ten steps and ė is its change per
    step. Nothing leaves the device. `docs/experiments` has what it was tried on.
    """

    def __init__(self, plan: Plan, kind: str | None, device: torch.device) -> None:
        h = plan.hyperparameters
        base = {"l1": h.l1_alpha, "l0": h.l0_alpha, None: 0.0}[kind]
        self._kind = kind
        self._target = h.target_l0 if kind else None
        self._warmup = plan.sparsity_warmup_steps
        self._weight = torch.tensor(base, dtype=torch.float64, device=device)
        self._recent = torch.zeros(2 * _AVERAGED_STEPS, dtype=torch.float64, device=device)
        self._held = torch.zeros((), dtype=torch.int64, device=device)
        self._seen = 0

    def start(self, spread: Tensor) -> None:
        """Tell the standard deviation of what is to be explained, before the first step.

        Where all of it is c times smaller, a reconstruction error is c² and an L1 norm c times
        smaller: the weight a search begins with follows. Without a target it stays as given.
        """
        if self._target is not None:
            self._weight.mul_(spread.double() ** {"l1": 1, "l0": 2}[str(self._kind)])

    def go_on(self, reconstruction: Tensor, penalty: Tensor) -> None:
        """Tell an SAE's reconstruction loss and its penalty at weight 1, where it is trained.

        At its best a weighted penalty is of the reconstruction loss's own size; from there the
        search goes on. Without a target the weight stays as given.
        """
        if self._target is not None:
            found = (reconstruction.double() / penalty.double()).nan_to_num(nan=1.0)
            self._weight.copy_(found.clamp(_SMALLEST, _LARGEST))

    def coefficient(self, step: int) -> Tensor:
        """The weight in step 1 … num_steps, a float32 scalar on the device."""
        warmed = min(1.0, step / self._warmup) if self._warmup else 1.0
        return (self._weight * warmed).float()

    def observe(self, step: int, l0: Tensor, share: Tensor) -> None:
        """Tell a finished step's L0, and how large its penalty was beside its reconstruction."""
        if self._target is None:
            return
        self._recent.copy_(self._recent.roll(-1))
        self._recent[-1] = l0
        self._seen += 1
        if step < self._warmup or self._seen < len(self._recent):
            return
        means = self._recent.view(2, _AVERAGED_STEPS).mean(1) / self._target
        before, error = means.clamp_min(1e-6).log().clamp(-1, 1)
        ahead = error + _LEAD_STEPS / _AVERAGED_STEPS * (error - before)
        # A perfect reconstruction has no share; then nothing holds the weight.
        share = share.double().nan_to_num(nan=1.0)
        low, high = share < _LEAST, share > _MOST
        change = _GAIN * ahead
        change = torch.where(
            low, change.clamp_min(0), torch.where(high, change.clamp_max(0), change)
        )
        back = _BACK_RATE * ((low & (error > 0)).double() - (high & (error < 0)).double())
        self._weight.mul_((change + back).exp())
        self._weight.clamp_(_SMALLEST, _LARGEST)
        self._hold(low & (error < 0), high & (error > 0))

    def read(self, step: int) -> float | None:
        """The weight for people; null where there is no penalty. Waits for the device."""
        return float(self.coefficient(step)) if self._kind else None

    def limit(self) -> str | None:
        """The end of its range that the weight has been held at; waits for the device."""
        held = int(self._held)
        if abs(held) < _HELD_STEPS:
            return None
        return "lower" if held < 0 else "upper"

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {"weight": self._weight, "recent": self._recent, "held": self._held}
        return tensors, {"seen": self._seen}

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        for name, tensor in self.state()[0].items():
            tensor.copy_(tensors[name])
        self._seen = numbers["seen"]

    def _hold(self, low: Tensor, high: Tensor) -> None:
        """Count the steps at one end in a row, the lower end downwards."""
        upwards = (self._held.clamp_min(0) + 1) * high
        self._held.copy_(torch.where(low, self._held.clamp_max(0) - 1, upwards))
