"""This engine on stored activations: its own `advance`, `State` and `Plan`, without a model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from measure import Data
from torch import Tensor

from workers.engine.activations import Activations
from workers.engine.advance import advance
from workers.engine.config import Hyperparameters, ModelFacts, Plan, TrainingConfig
from workers.engine.state import State

_SETTLED_ON = 65_536


class Ours:
    """A run of the engine in float32; hyperparameters as a researcher would set them."""

    def __init__(self, data: Data, architecture: str, **h: Any) -> None:
        settings = {"num_steps": data.steps, "batch_size": data.batch, "seed": 0} | h
        config = TrainingConfig.model_construct(
            architecture=TrainingConfig(architecture=architecture, layer=0).architecture,
            layer=0,
            # Short runs have fewer steps than the range allows; nothing else is outside.
            hyperparameters=Hyperparameters.below_ranges(**settings),
        )
        self.plan = Plan.of(config, ModelFacts(d_model=data.width, n_layers=2))
        self.state = State.fresh(self.plan, torch.device("cpu"), torch.float32)
        first = slice(_SETTLED_ON)
        self.state.settle(self._activations(data.training[first], data.next_layer[first]))

    @property
    def coefficient(self) -> float | None:
        return self.state.penalty.read(self.state.step)

    def step(self, x_BD: Tensor, y_BD: Tensor | None = None) -> None:
        """`y_BD` is the next layer, for an architecture that reconstructs it, or it too."""
        advance(self.state, self.plan, self._activations(x_BD, x_BD if y_BD is None else y_BD))

    def reconstruct(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        scales = self.state.normalizer(x_BD, x_BD)
        z_BF, y_hat_BO = self.state.sae.reconstruct(scales.x)
        return scales.restore(y_hat_BO), z_BF > 0

    def reach(self, x_BD: Tensor) -> float:
        """The share of pairs a JumpReLU step has to look at: within reach of θ, or above it."""
        h, w = self.plan.hyperparameters, self.state.sae.weights
        x = self.state.normalizer(x_BD, x_BD).x
        pre_BF = torch.addmm(w["b_enc"], x, w["W_enc"].T)
        return float((pre_BF > w["threshold"] - h.jumprelu_bandwidth / 2).float().mean())

    def _activations(self, x_BD: Tensor, y_BD: Tensor) -> Activations:
        contexts = np.zeros(len(x_BD), dtype=np.int64)
        if self.plan.architecture.spans:
            x_BD = torch.cat((x_BD, y_BD), 1)
        return Activations(x_BD, y_BD if self.plan.has_own_target else x_BD, contexts)
