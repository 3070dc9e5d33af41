"""This engine's training step in every form, each at a set number of active latents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..activations import Activations
from ..advance import advance
from ..config import Architecture, Hyperparameters, ModelFacts, Plan, TrainingConfig
from ..language_model import settled_dtype
from ..sae import dense
from ..sae.dense import Products
from ..state import State

# Small enough that the number of active latents stays where it was set while it is timed.
_LEARNING_RATE = 1e-9
# What JumpReLU is timed at besides the default: a kernel that reaches few latents.
NARROW_BANDWIDTH = 0.1


@dataclass(frozen=True)
class Case:
    """One form of the step. `l0` None leaves the SAE as it starts, with half its latents active."""

    name: str
    kind: str
    architecture: Architecture
    l0: int | None = None
    k: int | None = None
    bandwidth: float | None = None
    always_dense: bool = False


def cases(k: int, l0: int) -> list[Case]:
    """Every architecture with every activation, sparse against dense."""
    standard, jump = Architecture.STANDARD, Architecture.JUMPRELU
    found = [Case(f"standard, top {k}", "topk", standard, k=k)]
    found.append(Case(f"standard, L0 {l0}", "standard", standard, l0=l0))
    found.append(Case(f"standard, L0 {l0}, dense", "standard", standard, l0=l0, always_dense=True))
    found.append(Case("standard, at the start", "standard", standard))
    narrow = f"jumprelu, L0 {l0}, bandwidth {NARROW_BANDWIDTH}"
    found.append(Case(narrow, "jumprelu", jump, l0=l0, bandwidth=NARROW_BANDWIDTH))
    found.append(Case(f"jumprelu, L0 {l0}, default bandwidth", "jumprelu", jump, l0=l0))
    found.append(Case(f"skip, L0 {l0}", "skip", Architecture.SKIP, l0=l0))
    found.append(Case(f"transcoder, L0 {l0}", "transcoder", Architecture.TRANSCODER, l0=l0))
    return found


class _AlwaysDense(Products):
    """What the step would cost if it never looked at which latents are active."""

    def worth_sparse(self, x_BD: Tensor) -> float:
        return -1.0


class Runner:
    """One case on its own weights."""

    def __init__(self, case: Case, first: Tensor, d_sae: int, device: torch.device) -> None:
        """`first` [B, D] sets normalization and the number of active latents."""
        self.case = case
        h: dict[str, object] = {
            "latent_dim": d_sae,
            "batch_size": len(first),
            "learning_rate": _LEARNING_RATE,
            "num_steps": 1_000_000,
        }
        if case.k is not None:
            h["top_k_sparsity"] = 100 * case.k / d_sae
        if case.bandwidth is not None:
            h["jumprelu_bandwidth"] = case.bandwidth
        config = TrainingConfig(
            architecture=case.architecture,
            layer=0,
            hyperparameters=Hyperparameters.below_ranges(**h),
        )
        self.plan = Plan.of(config, ModelFacts(d_model=first.shape[1], n_layers=2))
        self.state = State.fresh(self.plan, device, settled_dtype("auto", device))
        if case.always_dense:
            self.state.sae.products = _AlwaysDense(self.state.sae.products.dtype)
        batch = self._batch(first)
        self.state.settle(batch)
        if case.l0 is not None:
            self._place(batch, case.l0)

    def __call__(self, x_BD: Tensor) -> None:
        """One whole step, as in a run."""
        advance(self.state, self.plan, self._batch(x_BD))

    def l0(self) -> float:
        """Active latents per token over the steps so far."""
        return self.state.window.read()["l0"]

    def _batch(self, x_BD: Tensor) -> Activations:
        y_BO = x_BD.roll(1, 0) if self.plan.has_own_target else x_BD
        return Activations(x_BD, y_BO, np.zeros(len(x_BD), dtype=np.int64))

    def _place(self, batch: Activations, l0: int) -> None:
        """Move the bias, or θ, so that so many latents of a token are active on average."""
        normalized = self.state.normalizer(batch.x, batch.y)
        weights = self.state.sae.weights
        pre_BF = dense.pre_activations(weights, normalized.x[:1024])
        cut = float(pre_BF.flatten().topk(l0 * len(pre_BF)).values[-1])
        if "threshold" in weights:
            weights["threshold"].fill_(max(cut, 0.0))
            weights["b_enc"].add_(min(cut, 0.0))
        else:
            weights["b_enc"].sub_(cut)


class Floor:
    """What no step can do without: the encoder's product and Adam over all weights."""

    def __init__(self, first: Tensor, d_sae: int, device: torch.device) -> None:
        d = first.shape[1]
        self._products = Products(settled_dtype("auto", device))
        self._weights = {
            "W_enc": torch.randn(d_sae, d, device=device),
            "b_enc": torch.zeros(d_sae, device=device),
        }
        self._rest = [torch.randn(d_sae, d, device=device), torch.zeros(d, device=device)]
        parameters = [*self._weights.values(), *self._rest]
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        self._adam = torch.optim.Adam(parameters, lr=_LEARNING_RATE, fused=True)

    def __call__(self, x_BD: Tensor) -> None:
        self._products.pre_activations(self._weights, x_BD)
        self._adam.step()
