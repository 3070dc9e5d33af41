"""Adam with clipping by the whole gradient's norm; its moments can be reset row by row."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .config import Hyperparameters
from .moments import RoundedAdam
from .sae import Weights

_MOMENTS = ("exp_avg", "exp_avg_sq")


class _Adam(torch.optim.Adam):
    """Divides the gradients by `grad_scale` in the pass that uses them."""

    grad_scale: Tensor | None = None


class Optimizer:
    """Changes the weights it was given in place."""

    def __init__(self, weights: Weights, h: Hyperparameters) -> None:
        """All memory is taken here, so that a step cannot run out of it between two weights."""
        self._weights = weights
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
            self._adam.grad_scale = _excess(list(gradients.values()), self._clip)
        for name, weight in self._weights.items():
            weight.grad = gradients[name]
        self._adam.param_groups[0]["lr"] = learning_rate
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)

    def reset(self, latents: Tensor) -> None:
        """Forget the moments of these latents: they belong to what the rows were before."""
        for name, weight in self._weights.items():
            if name not in ("b_dec", "W_skip"):
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


def _excess(gradients: list[Tensor], largest: float) -> Tensor:
    """How many times the whole gradient is longer than `largest`, and 1 where it is not."""
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    excess: Tensor = (norm + 1e-6) / largest
    return excess.clamp_(min=1.0)
