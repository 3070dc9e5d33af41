"""ReLU behind a gate that the penalty acts on alone (Rajamanoharan et al. 2024, arXiv 2404.16014).

    gate = W_enc x + b_enc,  mag = exp(r_mag) ⊙ (W_enc x) + b_mag
    z = [gate > 0] · ReLU(mag),  a = ReLU(gate)
    loss = MSE(z W_dec + b_dec, x) + l1_alpha · L1(a) + MSE(a W_dec° + b_dec°, x)

Nothing goes back through the gate's step; the third term, through a decoder (°) that it does not
change, is what the gate learns from. So L1 shrinks a, and not the magnitudes in z.

With u = W_enc x the gate is open where mag exceeds θ = b_mag − exp(r_mag) ⊙ b_enc, and
mag = exp(r_mag) ⊙ gate + θ. So a trained one is a JumpReLU, ReLU(mag) · [mag > θ], whatever the
sign of θ (the paper's appendix on their equivalence); a negative θ is the same as 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..ranks import ALONE, Ranks
from . import dense
from .activation import Activation
from .dense import DenseStep, Products
from .pairs import Pairs
from .step import Step, Weights, mean_square


@dataclass(frozen=True)
class Gate(Activation):
    """Besides the weights of a ReLU there are r_mag [F] and b_mag [F]."""

    penalty: ClassVar[str | None] = "l1"

    def latents(self, w: Weights, x_BD: Tensor) -> Tensor:
        gate_BF = dense.pre_activations(w, x_BD)
        scale_F, theta_F = magnitude(w)
        return (gate_BF * scale_F).add_(theta_F).relu_().mul_(gate_BF > 0)

    def inference(self, w: Weights) -> Weights:
        scale_F, theta_F = magnitude(w)
        return {
            "W_enc": w["W_enc"] * scale_F[:, None],
            "b_enc": w["b_mag"],
            "threshold": theta_F.clamp_min(0),
        }

    def step(
        self,
        w: Weights,
        x_BD: Tensor,
        t_BO: Tensor,
        coefficient: Tensor,
        dead: Tensor | None,
        products: Products,
    ) -> Step:
        gate_BF = products.pre_activations(w, x_BD)
        found = Pairs.above(gate_BF, 0.0, products.worth_sparse(x_BD))
        if found is None:
            return dense_step(w, x_BD, t_BO, gate_BF, coefficient, products.ranks)
        return sparse_step(w, x_BD, t_BO, *found, coefficient, products.ranks)


def magnitude(w: Weights) -> tuple[Tensor, Tensor]:
    """exp(r_mag) and θ, [F] each: mag = exp(r_mag) ⊙ gate + θ."""
    scale_F = w["r_mag"].exp()
    return scale_F, torch.addcmul(w["b_mag"], scale_F, w["b_enc"], value=-1)


def sparse_step(
    w: Weights,
    x_BD: Tensor,
    t_BO: Tensor,
    opened: Pairs,
    gate_N: Tensor,
    l1_alpha: Tensor,
    ranks: Ranks = ALONE,
) -> Step:
    """Equal to `dense_step`, at the cost of the pairs whose gate is open."""
    scale_F, theta_F = magnitude(w)
    scale_N = scale_F[opened.latents]
    mag_N = (gate_N * scale_N).add_(theta_F[opened.latents])
    z_N, active_N = mag_N.relu(), mag_N > 0
    by_gate_BO, of_gate_N = opened.reconstruct(gate_N, w, t_BO, ranks)
    auxiliary = by_gate_BO.square().mean()
    residual_BO, of_mag_N = opened.reconstruct(z_N, w, t_BO, ranks)
    mse, g_BO = mean_square(residual_BO)
    dmag_N = of_mag_N.mul_(2 / residual_BO.numel()).mul_(active_N)
    dgate_N = of_gate_N.mul_(2 / residual_BO.numel()).add_(l1_alpha / len(x_BD))
    gradients, fired_F = opened.gradients(z_N, scale_N.mul_(dmag_N).add_(dgate_N), x_BD, g_BO)
    u_N = mag_N.sub_(w["b_mag"][opened.latents])  # ∂mag/∂r_mag = exp(r_mag) u
    own = {"b_enc": dgate_N, "b_mag": dmag_N, "r_mag": dmag_N * u_N}
    return Step(
        gradients=gradients | {name: opened.sums(value_N) for name, value_N in own.items()},
        loss=mse + auxiliary + l1_alpha * (gate_N.sum() / len(x_BD)),
        reconstruction_loss=mse,
        l0=active_N.sum(dtype=mse.dtype) / len(x_BD),
        l1=z_N.sum() / len(x_BD),
        residual_BO=residual_BO,
        fired_F=fired_F,
        auxiliary=auxiliary,
    )


def dense_step(
    w: Weights,
    x_BD: Tensor,
    t_BO: Tensor,
    gate_BF: Tensor,
    l1_alpha: Tensor,
    ranks: Ranks = ALONE,
) -> Step:
    """Loss against target t and its gradients, by hand; `gate_BF` is used up."""
    whole, (scale_F, theta_F) = DenseStep(w, x_BD, t_BO, ranks), magnitude(w)
    b_O, goal_BO = ranks.once(w["b_dec"]), ranks.once(t_BO)
    own = {name: torch.zeros_like(w[name]) for name in ("b_enc", "b_mag", "r_mag")}
    auxiliary = penalty = x_BD.new_zeros(())
    W_dec, numel = w["W_dec"].to(gate_BF.dtype), t_BO.numel()
    for block, gate_RF in whole.blocks(gate_BF):
        mag_RF = (gate_RF * scale_F).add_(theta_F)
        opened_RF = gate_RF > 0
        active_RF = (mag_RF > 0).logical_and_(opened_RF)
        a_RF, z_RF = gate_RF.relu_(), (mag_RF * active_RF).to(gate_RF.dtype)
        by_gate_RO = ranks.sum((a_RF @ W_dec + b_O).sub_(goal_BO[block]))
        auxiliary = auxiliary + by_gate_RO.square().sum() / numel
        penalty = penalty + a_RF.sum(dtype=x_BD.dtype) / len(x_BD)
        dgate_RF = (by_gate_RO * (2 / numel)).to(W_dec.dtype) @ W_dec.T
        dgate_RF.add_(l1_alpha.to(W_dec.dtype) / len(x_BD)).mul_(opened_RF)
        dmag_RF = whole.latent_gradients(block, z_RF).mul_(active_RF)
        whole.add(block, z_RF, (dmag_RF * scale_F + dgate_RF).to(z_RF.dtype), active_RF)
        own["b_enc"] += dgate_RF.sum(0, dtype=x_BD.dtype)
        own["b_mag"] += dmag_RF.sum(0, dtype=x_BD.dtype)
        own["r_mag"] += mag_RF.sub_(w["b_mag"]).mul_(dmag_RF).sum(0, dtype=x_BD.dtype)
    step = whole.step(auxiliary + l1_alpha * penalty, **own)
    return replace(step, auxiliary=auxiliary)
