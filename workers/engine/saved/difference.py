"""Whether two readers of an SAE see the same one."""

from __future__ import annotations

import torch
from torch import Tensor

TOLERANCE = 1e-4
# Of all that fires, how much may fire for one reader only, and how often in any case: a latent
# within rounding of its threshold, or of the k-th largest (then two), may fall on either side once
# something is folded into the weights. Tokens that differ by this are not compared, at most half.
BORDERLINE, ONE_SWAP, LEAST_COMPARED = 1e-3, 2, 0.5

Reconstruction = tuple[Tensor, Tensor]


class DifferentSae(Exception):
    """They see two; the message goes on from "The SAE that was written"."""


def difference(expected: Reconstruction, found: Reconstruction) -> float:
    """The largest difference of reconstructions [B, O], relative to the largest value expected.

    Both are latents [B, F] and reconstructions, and the latents must be the same, too. Raises
    `DifferentSae`.
    """
    (z_BF, y_hat_BO), (found_z_BF, found_y_hat_BO) = expected, found
    fired_BF, found_fired_BF = z_BF > 0, found_z_BF > 0
    differ_BF = fired_BF != found_fired_BF
    y_B, z_B = _relative(y_hat_BO, found_y_hat_BO), _relative(z_BF, found_z_BF)
    worst_B = torch.maximum(y_B, z_B)
    compared_B = ~differ_BF.any(1) | (worst_B < TOLERANCE)
    borderline = max(ONE_SWAP, BORDERLINE * int((fired_BF | found_fired_BF).sum()))
    if int(differ_BF.sum()) > borderline or float(compared_B.float().mean()) < LEAST_COMPARED:
        raise DifferentSae("fires other latents than the one it was written from")
    worst = float(worst_B[compared_B].max())
    if not worst < TOLERANCE:
        raise DifferentSae(
            "reconstructs differently from the one it was written from, by "
            f"{worst:.2g} of the largest value"
        )
    return float(y_B[compared_B].max())


def _relative(expected: Tensor, found: Tensor) -> Tensor:
    """Per token, relative to the largest value of all."""
    return (expected - found).abs().amax(1) / expected.abs().max().clamp_min(1e-12)
