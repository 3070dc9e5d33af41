"""What an experienced eye would see in the curves, as plain sentences with their evidence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .config import Plan
from .events import Progress, Warned
from .ranks import ALONE, Ranks

if TYPE_CHECKING:
    from .sae import Weights
    from .schedule import Penalty

# Dead latents are told of from this share on, when it has grown by so much since its lowest.
_DEAD_SHARE, _DEAD_GROWTH = 0.10, 0.05
# θ is looked at over so many steps; it stands still when it moved by less than this share of what
# Adam moves a parameter that has a steady gradient (the sum of the learning rates).
_THRESHOLD_STEPS, _STILL = 500, 0.01
_REPEATS = 4


class Diagnosis:
    """Looks at every logged point; each finding is told once in a run, also across a resume."""

    def __init__(self, plan: Plan, thresholds_F: Tensor | None, ranks: Ranks = ALONE) -> None:
        """`thresholds_F` are the θ of a JumpReLU, None for other activations."""
        self._plan, self._ranks = plan, ranks
        self._told: list[str] = []
        self._lowest_dead: tuple[int, float] | None = None
        self._reference_F = None if thresholds_F is None else thresholds_F.clone()
        self._reference_step = 0
        self._reach = 0.0  # how far Adam could have moved θ since then

    def look(
        self, point: Progress, weights: Weights, penalty: Penalty, n_usable: int
    ) -> Iterator[Warned]:
        """Findings that are new at this point. Waits for the device, as the point did."""
        found = {
            "dead_rising": self._dead_rising(point),
            "threshold_still": self._threshold_still(point, weights),
            "coefficient_limit": self._coefficient_limit(point, penalty),
            "dataset_exhausted": self._exhausted(point, n_usable),
            "tokens_repeated": self._repeated(point, n_usable),
        }
        for code, message in found.items():
            if message and code not in self._told:
                self._told.append(code)
                yield Warned(step=point.step, code=code, message=message)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {} if self._reference_F is None else {"reference": self._reference_F}
        return tensors, {
            "told": self._told,
            "lowest_dead": self._lowest_dead,
            "reference_step": self._reference_step,
            "reach": self._reach,
        }

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        if self._reference_F is not None:
            self._reference_F.copy_(tensors["reference"])
        self._told = list(numbers["told"])
        lowest = numbers["lowest_dead"]
        self._lowest_dead = None if lowest is None else (lowest[0], lowest[1])
        self._reference_step, self._reach = numbers["reference_step"], numbers["reach"]

    def _dead_rising(self, point: Progress) -> str | None:
        if point.dead_window_tokens < self._plan.dead_window_tokens:
            return None  # latents have not had their chance yet
        share = point.dead_neurons / self._plan.d_sae
        if self._lowest_dead is None or share < self._lowest_dead[1]:
            self._lowest_dead = (point.step, share)
        step, lowest = self._lowest_dead
        if share < _DEAD_SHARE or share - lowest < _DEAD_GROWTH:
            return None
        return (
            f"Dead latents rose from {lowest:.0%} at step {step:,} to {share:.0%} "
            f"({point.dead_neurons:,} of {self._plan.d_sae:,}). Lower the learning rate or the "
            "penalty, lengthen the sparsity warm-up, or set resample_steps."
        )

    def _threshold_still(self, point: Progress, weights: Weights) -> str | None:
        if self._reference_F is None:
            return None
        log_interval = self._plan.hyperparameters.log_interval
        self._reach += point.learning_rate * log_interval
        steps = point.step - self._reference_step
        if steps < _THRESHOLD_STEPS:
            return None
        moved_F = self._ranks.joined((weights["threshold"] - self._reference_F).abs())
        moved = float(moved_F.mean())
        reach, self._reach = self._reach, 0.0
        self._reference_F.copy_(weights["threshold"])
        self._reference_step = point.step
        if moved >= _STILL * reach:
            return None
        bandwidth = self._plan.hyperparameters.jumprelu_bandwidth
        return (
            f"The thresholds θ hardly move: {moved:.2g} on average in {steps:,} steps, where Adam "
            f"could have moved them by {reach:.2g}. The kernel of width {bandwidth:g} reaches too "
            "few pre-activations; choose a larger jumprelu_bandwidth."
        )

    def _coefficient_limit(self, point: Progress, penalty: Penalty) -> str | None:
        limit, target = penalty.limit(), self._plan.hyperparameters.target_l0
        if limit is None or target is None:
            return None
        return (
            f"The sparsity coefficient stands at its {limit} limit and L0 is {point.l0:.1f}, not "
            f"{target:g}: this target_l0 cannot be reached here. Choose another one, or train "
            "longer with a higher learning rate."
        )

    def _exhausted(self, point: Progress, n_usable: int) -> str | None:
        if point.tokens_seen <= n_usable:
            return None
        return (
            f"All {n_usable:,} training tokens of the tokenization have been used; "
            "from here on they come again, in another order."
        )

    def _repeated(self, point: Progress, n_usable: int) -> str | None:
        if point.tokens_seen <= _REPEATS * n_usable:
            return None
        return (
            f"Every one of the {n_usable:,} training tokens has been used {_REPEATS} times: the "
            "latents may come to fit this text alone. A larger text would serve better."
        )
