"""Adam with clipping by the whole gradient's norm; its moments can be reset row by row."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .config import Hyperparameters
from .sae import Weights

_MOMENTS = ("exp_avg", "exp_avg_sq")


class Optimizer:
    """Changes the weights it was given in place."""

    def __init__(self, weights: Weights, h: Hyperparameters) -> None:
        self._weights = weights
        self._clip = h.gradient_clip
        betas = (h.adam_beta1, h.adam_beta2)
        self._adam = torch.optim.Adam(list(weights.values()), betas=betas, fused=True)

    def step(self, gradients: Weights, learning_rate: float) -> None:
        """One step; `gradients` are used up."""
        if self._clip is not None:
            _clip(list(gradients.values()), self._clip)
        for name, weight in self._weights.items():
            weight.grad = gradients[name]
        self._adam.param_groups[0]["lr"] = learning_rate
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)

    def reset(self, latents: Tensor) -> None:
        """Forget the moments of these latents: they belong to what the rows were before."""
        for name, weight in self._weights.items():
            state = self._adam.state.get(weight)
            if state and name != "b_dec":
                for moment in _MOMENTS:
                    state[moment][latents] = 0

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors: dict[str, Tensor] = {}
        steps: dict[str, float] = {}
        for name, weight in self._weights.items():
            state = self._adam.state.get(weight)
            if state:
                tensors |= {f"{name}.{moment}": state[moment] for moment in _MOMENTS}
                steps[name] = float(state["step"])
        return tensors, {"steps": steps}

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        for name, count in numbers["steps"].items():
            weight = self._weights[name]
            # Cloned, so that the memory is aligned as it is in a run that was never interrupted.
            moments = {m: tensors[f"{name}.{m}"].to(weight.device).clone() for m in _MOMENTS}
            step = torch.tensor(count, dtype=torch.float32, device=weight.device)
            self._adam.state[weight] = {"step": step, **moments}


def _clip(gradients: list[Tensor], largest: float) -> None:
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    scale = (largest / (norm + 1e-6)).clamp_(max=1.0)
    for gradient in gradients:
        gradient.mul_(scale)
