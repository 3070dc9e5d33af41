"""Adam with clipping by the whole gradient's norm; its moments can be reset row by row."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .config import Hyperparameters
from .moments import RoundedAdam
from .ranks import ALONE, WHOLE, Ranks
from .sae import Weights

_MOMENTS = ("exp_avg", "exp_avg_sq")


class _Adam(torch.optim.Adam):
    """Divides the gradients by `grad_scale` in the pass that uses them."""

    grad_scale: Tensor | None = None


class Optimizer:
    """Changes the weights it was given in place."""

    def __init__(self, weights: Weights, h: Hyperparameters, ranks: Ranks = ALONE) -> None:
        """All memory is taken here, so that a step cannot run out of it between two weights."""
        self._weights, self._ranks = weights, ranks
        self._clip = h.gradient_clip
        betas, parameters = (h.adam_beta1, h.adam_beta2), list(weights.values())
        rounded = h.moments_dtype == "bfloat16"
        self._adam: RoundedAdam | _Adam = (
            RoundedAdam(parameters, betas, h.seed)
            if rounded
            else _Adam(parameters, betas=betas, fused=True)
        )
        dtype = torch.bfloat16 if rounded else torch.float32
        for weight in parameters:
            device = torch.device("cpu") if rounded else weight.device
            self._adam.state[weight] = {
                "step": torch.zeros((), dtype=torch.float32, device=device),
                **{moment: torch.zeros_like(weight, dtype=dtype) for moment in _MOMENTS},
            }

    def step(self, gradients: Weights, learning_rate: float) -> None:
        """One step; `gradients` are used up."""
        if self._clip is not None:
            self._adam.grad_scale = _excess(gradients, self._clip, self._ranks)
        for name, weight in self._weights.items():
            weight.grad = gradients[name]
        self._adam.param_groups[0]["lr"] = learning_rate
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)

    def reset(self, latents: Tensor) -> None:
        """Forget the moments of these latents: they belong to what the rows were before."""
        for name, weight in self._weights.items():
            if name not in WHOLE:
                for moment in _MOMENTS:
                    self._adam.state[weight][moment][latents] = 0

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors: dict[str, Tensor] = {}
        steps: dict[str, float] = {}
        for name, weight in self._weights.items():
            state = self._adam.state[weight]
            tensors |= {f"{name}.{moment}": state[moment] for moment in _MOMENTS}
            steps[name] = float(state["step"])
        return tensors, {"steps": steps}

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        # Copied in place, so that the memory is aligned as in a run that was never interrupted.
        for name, count in numbers["steps"].items():
            state = self._adam.state[self._weights[name]]
            state["step"].fill_(count)
            for moment in _MOMENTS:
                state[moment].copy_(tensors[f"{name}.{moment}"])


def _excess(gradients: Weights, largest: float, ranks: Ranks) -> Tensor:
    """How many times the whole gradient is longer than `largest`, and 1 where it is not."""
    norms = {name: gradient.norm() for name, gradient in gradients.items()}
    norm = torch.stack(list(norms.values())).norm()
    if not ranks.alone:
        whole = [n.square() for name, n in norms.items() if name in WHOLE]
        own = [n.square() for name, n in norms.items() if name not in WHOLE]
        norm = (ranks.sum(torch.stack(own).sum()) + torch.stack(whole).sum()).sqrt()
    excess: Tensor = (norm + 1e-6) / largest
    return excess.clamp_(min=1.0)
