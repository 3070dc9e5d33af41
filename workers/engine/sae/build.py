"""An SAE for a plan: its class, its activation, its first weights."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..config import Architecture, Plan
from ..ranks import ALONE, WHOLE, Ranks
from ..ranks.select import nth_largest
from . import dense
from .activation import Activation
from .base import Sae, project
from .batchtopk import BatchTopK
from .crosscoder import Crosscoder
from .gate import Gate
from .gated import Gated
from .jump import Jump
from .jumprelu import JumpRelu
from .matryoshka import Matryoshka
from .nested import Nested, within
from .p_annealed import PAnnealed
from .skip import Skip
from .standard import Standard
from .step import Weights
from .topk import TopK
from .transcoder import Transcoder

# Tokens on which thresholds are placed: a few hundred active pairs at each are plenty.
_THRESHOLD_TOKENS = 2048
_AT_ONCE = 2048
# Of the mean variance of an input: keeps directions that hardly vary from being read as signals.
_RIDGE = 1e-3

_CLASSES: dict[Architecture, type[Sae]] = {
    Architecture.STANDARD: Standard,
    Architecture.JUMPRELU: JumpRelu,
    Architecture.SKIP: Skip,
    Architecture.TRANSCODER: Transcoder,
    Architecture.BATCHTOPK: BatchTopK,
    Architecture.MATRYOSHKA: Matryoshka,
    Architecture.GATED: Gated,
    Architecture.P_ANNEALED: PAnnealed,
    Architecture.CROSSCODER: Crosscoder,
}


def build(
    plan: Plan,
    device: torch.device,
    products: torch.dtype | None = None,
    ranks: Ranks = ALONE,
) -> Sae:
    """The SAE with random decoder directions from the seed; `start_at` centres it on data.

    Of several `ranks` this one's latents of the same SAE.
    """
    kind = _CLASSES[plan.architecture]
    activation = _activation(plan, kind, ranks)
    for name, value in activation.running.items():
        activation.running[name] = value.to(device)
    weights = _weights(plan, activation)
    if not ranks.alone:
        own = ranks.share(plan.d_sae)  # copied: the others' rows are to be freed
        weights = {n: w if n in WHOLE else w[own].clone() for n, w in weights.items()}
    weights = {name: value.to(device) for name, value in weights.items()}
    return kind(weights, activation, products, len(plan.layers), ranks)


def start_at(sae: Sae, x_MD: Tensor, y_MO: Tensor, l0: float | None = None) -> None:
    """Fit the SAE's first weights to normalized activations: without it nearly every latent dies.

    b_dec is the mean of what the latents have to explain; b_enc = −W_enc mean(x) takes the mean
    out of what they read (ENGINE.md; the same as subtracting b_dec from the input). Where they
    explain another layer, each writes what its direction predicts of it, see `_tie`. With `l0` the
    thresholds of a JumpReLU are set where so many latents are active at these tokens.
    """
    w = sae.weights
    if sae.learns_skip:
        _start_skip(sae, x_MD, y_MO)
    goal_MO = sae.goal(x_MD, y_MO)
    if goal_MO is not x_MD and not sae.learns_skip:
        _tie(w, linear_map(x_MD, goal_MO))
    w["b_dec"].copy_(goal_MO.mean(0, dtype=torch.float64))
    w["b_enc"].copy_(-(w["W_enc"].double() @ x_MD.mean(0, dtype=torch.float64)))
    if "b_mag" in w:  # then the magnitude is the gate at first
        w["b_mag"].copy_(w["b_enc"])
    if l0 is not None:
        pre_SF = dense.pre_activations(w, x_MD[:_THRESHOLD_TOKENS])
        active = min(sae.ranks.total(pre_SF.numel()), max(1, round(l0 * len(pre_SF))))
        w["threshold"].fill_(nth_largest(pre_SF.flatten(), active, sae.ranks).clamp_min(0))


def _start_skip(sae: Sae, x_MD: Tensor, y_MO: Tensor) -> None:
    """A learned skip starts as the linear map A from x to y; latents write what is no part of it.

    Tied to what A leaves over, which no linear map predicts, latents would start as noise. So each
    writes in the direction e A as elsewhere, and by so much less as there is less to explain.
    """
    map_DO = linear_map(x_MD, y_MO)
    _tie(sae.weights, map_DO)
    sae.weights["W_skip"].copy_(map_DO.T)
    left = spread(sae.goal(x_MD, y_MO)) / spread(y_MO).clamp_min(1e-12)
    sae.weights["W_enc"].mul_(left)


def _tie(w: Weights, map_DO: Tensor) -> None:
    """Tie the decoder to the encoder through the linear map A from x to the goal.

    A latent that reads the direction e then writes e A, as one of a Standard SAE writes e: so the
    first reconstruction is a linear prediction of the goal, in its direction and of its size.
    """
    written_FO = w["W_enc"].double() @ map_DO
    size_F = written_FO.norm(dim=1, keepdim=True) / w["W_enc"].norm(dim=1, keepdim=True)
    w["W_dec"].copy_(written_FO)
    project(w)
    w["W_enc"].mul_(size_F)


def linear_map(x_MD: Tensor, goal_MO: Tensor) -> Tensor:
    """A [D, O] of the ridge regression goal − mean ≈ (x − mean) A on these tokens, in float64."""
    width = x_MD.shape[1]
    covariance_DD = x_MD.new_zeros((width, width), dtype=torch.float64)
    shared_DO = x_MD.new_zeros((width, goal_MO.shape[1]), dtype=torch.float64)
    mean_D, mean_O = (some.mean(0, dtype=torch.float64) for some in (x_MD, goal_MO))
    for start in range(0, len(x_MD), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        x_BD = x_MD[some].double() - mean_D
        covariance_DD.addmm_(x_BD.T, x_BD)
        shared_DO.addmm_(x_BD.T, goal_MO[some].double() - mean_O)
    ridge = _RIDGE * covariance_DD.diagonal().mean().clamp_min(1e-12)
    covariance_DD.diagonal().add_(ridge)
    found: Tensor = torch.linalg.solve(covariance_DD, shared_DO)
    return found


def spread(some_MD: Tensor) -> Tensor:
    """Standard deviation of an element about the mean activation, a float32 scalar."""
    return some_MD.var(0, correction=0).mean().sqrt()


def _activation(plan: Plan, kind: type[Sae], ranks: Ranks) -> Activation:
    if plan.top_k is not None:
        return TopK(plan.top_k, plan.hyperparameters.auxk_alpha)
    activation = kind.own_activation(plan)
    if isinstance(activation, Nested):
        return replace(activation, ends=within(activation.ends, ranks.share(plan.d_sae)))
    return activation


def _weights(plan: Plan, activation: Activation) -> Weights:
    """Tied: W_enc = W_dec · 2D/F, so that the first reconstruction is of the data's size.

    D is the width of one layer, since a crosscoder's rows have norm 1 at each. Of the residual
    stream, where a direction means much the same a few blocks on, a latent starts with one
    direction for all layers, and each layer's first reconstruction is of their mean.
    """
    generator = torch.Generator().manual_seed(plan.hyperparameters.seed)
    alike = len(plan.layers) if plan.hyperparameters.hook == "resid_post" else 1
    W_dec = torch.randn(plan.d_sae, plan.d_out // alike, generator=generator).repeat(1, alike)
    weights = {
        "W_enc": W_dec,
        "b_enc": torch.zeros(plan.d_sae),
        "W_dec": W_dec.clone(),
        "b_dec": torch.zeros(plan.d_out),
    }
    project(weights, len(plan.layers))
    weights["W_enc"] = weights["W_dec"] * (2 * plan.width / (plan.d_sae * alike))
    if isinstance(activation, Jump):
        weights["threshold"] = torch.full((plan.d_sae,), plan.first_threshold)
    if plan.learns_skip:
        weights["W_skip"] = torch.zeros(plan.d_out, plan.d_in)
    if isinstance(activation, Gate):
        weights |= {name: torch.zeros(plan.d_sae) for name in ("b_mag", "r_mag")}
    return weights
