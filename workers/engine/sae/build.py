"""An SAE for a plan: its class, its activation, its first weights."""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import Architecture, Plan
from . import dense
from .activation import Activation
from .base import Sae, project
from .jump import Jump
from .jumprelu import JumpRelu
from .skip import Skip
from .standard import Standard
from .step import Weights
from .topk import TopK
from .transcoder import Transcoder

# Tokens on which thresholds are placed: a few hundred active pairs at each are plenty.
_THRESHOLD_TOKENS = 2048

_CLASSES: dict[Architecture, type[Sae]] = {
    Architecture.STANDARD: Standard,
    Architecture.JUMPRELU: JumpRelu,
    Architecture.SKIP: Skip,
    Architecture.TRANSCODER: Transcoder,
}


def build(plan: Plan, device: torch.device, products: torch.dtype | None = None) -> Sae:
    """The SAE with random decoder directions from the seed; `start_at` centres it on data."""
    kind = _CLASSES[plan.architecture]
    activation = _activation(plan, kind)
    weights = {name: value.to(device) for name, value in _weights(plan, activation).items()}
    return kind(weights, activation, products)


def start_at(sae: Sae, x_MD: Tensor, y_MO: Tensor, l0: float | None = None) -> None:
    """Centre the SAE on normalized activations: without it nearly every latent dies.

    b_dec is the mean of what the latents have to explain; b_enc = −W_enc mean(x) takes the mean
    out of what they read (ENGINE.md; the same as subtracting b_dec from the input). With `l0` the
    thresholds of a JumpReLU are set where so many latents are active at these tokens.
    """
    w = sae.weights
    w["b_dec"].copy_(sae.goal(x_MD, y_MO).double().mean(0))
    w["b_enc"].copy_(-(w["W_enc"].double() @ x_MD.double().mean(0)))
    if l0 is not None:
        pre_SF = dense.pre_activations(w, x_MD[:_THRESHOLD_TOKENS])
        active = min(pre_SF.numel(), max(1, round(l0 * len(pre_SF))))
        w["threshold"].fill_(pre_SF.flatten().topk(active).values[-1].clamp_min(0))


def _activation(plan: Plan, kind: type[Sae]) -> Activation:
    if plan.k is not None:
        return TopK(plan.k, plan.hyperparameters.auxk_alpha)
    return kind.own_activation(plan.hyperparameters)


def _weights(plan: Plan, activation: Activation) -> Weights:
    """Tied: W_enc = W_dec · 2D/F, so that the first reconstruction is of the data's size."""
    generator = torch.Generator().manual_seed(plan.hyperparameters.seed)
    W_dec = torch.randn(plan.d_sae, plan.d_out, generator=generator)
    weights = {
        "W_enc": W_dec,
        "b_enc": torch.zeros(plan.d_sae),
        "W_dec": W_dec.clone(),
        "b_dec": torch.zeros(plan.d_out),
    }
    project(weights)
    weights["W_enc"] = weights["W_dec"] * (2 * plan.d_in / plan.d_sae)
    if isinstance(activation, Jump):
        weights["threshold"] = torch.full((plan.d_sae,), plan.first_threshold)
    return weights
