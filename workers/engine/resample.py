"""Dead latents start again at inputs that are badly reconstructed (Bricken et al. 2023)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .sae import Sae, Step
from .sae.spanning import normalize as normalized

_ENCODER_SHARE = 0.2  # of the living rows' mean norm: small enough not to upset the others


def resample(sae: Sae, dead: Tensor, x_BD: Tensor, step: Step, same_space: bool, seed: int) -> None:
    """Give each dead latent a token drawn by its squared error.

    Its decoder row points along what is missing there. Its encoder row points along the same where
    input and target are one space, else along the token's input; its bias takes the input's mean
    out, its JumpReLU threshold is the middle one, made smaller as its encoder row is; behind a gate
    its magnitude is what the gate is. Of several ranks each draws for all of them, and takes its
    own: `dead` are those of its latents.
    """
    w, ranks = sae.weights, sae.ranks
    before, total = ranks.before(len(dead)), ranks.total(len(dead))
    error_B = step.residual_BO.double().square().sum(1).cpu()
    generator = torch.Generator().manual_seed(seed)
    weighed = error_B.square() + 1e-30
    drawn = torch.multinomial(weighed, total, replacement=True, generator=generator)
    drawn = drawn[before : before + len(dead)].to(x_BD.device)
    mean_D = x_BD.mean(0)
    missing = normalize(-step.residual_BO[drawn], dim=1)
    toward = missing if same_space else normalize(x_BD[drawn] - mean_D, dim=1)
    norms_F = w["W_enc"].norm(dim=1)
    alive_F = torch.ones_like(norms_F).index_fill_(0, dead, 0)
    lengths, alive = ranks.sum(torch.stack([(norms_F * alive_F).sum(), alive_F.sum()]))
    size = lengths / alive.clamp_min(1)
    w["W_dec"][dead] = missing if sae.layers == 1 else normalized(missing.clone(), sae.layers)
    w["W_enc"][dead] = toward * (size * _ENCODER_SHARE)
    w["b_enc"][dead] = -(w["W_enc"][dead] @ mean_D)
    if "threshold" in w:
        w["threshold"][dead] = ranks.joined(w["threshold"]).median() * _ENCODER_SHARE
    if "b_mag" in w:
        w["b_mag"][dead], w["r_mag"][dead] = w["b_enc"][dead], 0
