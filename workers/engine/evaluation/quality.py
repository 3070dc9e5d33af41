"""How well an SAE reconstructs, and how sparsely: sums over pieces of held activations.

Definitions, in raw space (x input, y target, ŷ reconstruction, z latents; ⟨⟩ mean over tokens):

    fvu                            Σ‖y − ŷ‖² / Σ‖y − ȳ‖²
    explained_variance             1 − fvu                  (SAELens: explained_variance)
    explained_variance_per_token   ⟨1 − ‖y − ŷ‖² / ‖y − ȳ‖²⟩ (SAELens: explained_variance_legacy)
    mse                            ⟨‖y − ŷ‖²⟩
    cosine                         ⟨cos(y, ŷ)⟩
    l2_ratio                       ⟨‖ŷ‖ / ‖y‖⟩
    relative_reconstruction_bias   ⟨‖ŷ‖²⟩ / ⟨y · ŷ⟩          (Rajamanoharan et al. 2024, eq. 10)
    l0, l1                         ⟨number of z ≠ 0⟩, ⟨Σ z⟩
    by_layer                       of a crosscoder, the fvu of each of its layers
    fvu_skip                       as in `metrics.py`, where the SAE has a skip connection

Of a crosscoder all but l0 and l1 are the mean over its layers of what each would have by itself: of
all layers as one vector they would be those of the largest, which is the last.

Legend of shapes: B tokens, D input width, O target width, F latents.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..evaluate import density_histogram
from ..saved import SavedSae

_TOKENS_AT_ONCE = 512
# Of all tokens: a latent that fires less often is rare, one that fires more often is dense.
RARE_BELOW, DENSE_FROM = 1e-4, 0.1


class Quality:
    """Running sums in double precision."""

    def __init__(self, sae: SavedSae, mean_O: Tensor) -> None:
        self._sae, self._mean_O = sae, mean_O
        self._sums: list[dict[str, float]] = [{} for _ in range(sae.layers)]
        self._latents: dict[str, float] = {}
        self._fired_F = torch.zeros(sae.d_sae, dtype=torch.int64, device=sae.W_enc.device)
        self.tokens = 0

    def add(self, x_BD: Tensor, y_BO: Tensor) -> None:
        z_BF, y_hat_BO = self._sae.reconstruct(x_BD, y_BO)
        fired_BF = z_BF != 0
        self._fired_F += fired_BF.sum(0)
        _add(self._latents, {"l0": fired_BF.sum(1), "l1": z_BF.sum(1)})
        parts = [m_BO.chunk(self._sae.layers, -1) for m_BO in (y_BO, y_hat_BO, self._mean_O)]
        for sums, *of_layer in zip(self._sums, *parts, strict=True):
            _add(sums, _compared(*of_layer))
        alone_BO = self._sae.skip_alone(x_BD, y_BO)
        if alone_BO is not None:
            _add(self._sums[0], {"skip_error": (y_BO - alone_BO).square().sum(1)})
        self.tokens += len(x_BD)

    @property
    def frequency_F(self) -> Tensor:
        """Share of the tokens on which each latent fired, on the CPU."""
        return (self._fired_F.double() / max(self.tokens, 1)).cpu()

    def read(self) -> dict[str, Any]:
        layers = [_metrics({n: s / self.tokens for n, s in sums.items()}) for sums in self._sums]
        return {
            "tokens": self.tokens,
            **(layers[0] if len(layers) == 1 else _means(layers)),
            **{name: value / self.tokens for name, value in self._latents.items()},
            **firing(self.frequency_F),
            **self._by_layer(layers),
        }

    def _by_layer(self, layers: list[dict[str, float | None]]) -> dict[str, Any]:
        if not self._sae.across:
            return {}
        each = zip(self._sae.across, layers, strict=True)
        return {"by_layer": [{"layer": site.layer, "fvu": of["fvu"]} for site, of in each]}


def _compared(y_BO: Tensor, y_hat_BO: Tensor, mean_O: Tensor) -> dict[str, Tensor]:
    """Of each token, [B], what the definitions above take means of."""
    error_B = (y_BO - y_hat_BO).square().sum(1)
    variance_B = (y_BO - mean_O).square().sum(1)
    norm_B, norm_hat_B = y_BO.norm(dim=1), y_hat_BO.norm(dim=1)
    dot_B = (y_BO * y_hat_BO).sum(1)
    return {
        "error": error_B,
        "variance": variance_B,
        "error_share": error_B / variance_B.clamp_min(1e-12),
        "cosine": dot_B / (norm_B * norm_hat_B).clamp_min(1e-12),
        "l2_ratio": norm_hat_B / norm_B.clamp_min(1e-12),
        "square_hat": norm_hat_B.square(),
        "dot": dot_B,
    }


def _add(sums: dict[str, float], found: dict[str, Tensor]) -> None:
    for name, values_B in found.items():
        sums[name] = sums.get(name, 0.0) + float(values_B.double().sum())


def _metrics(s: dict[str, float]) -> dict[str, float | None]:
    """Of one place, from means over tokens."""
    fvu = _ratio(s["error"], s["variance"])
    return {
        "fvu": fvu,
        "explained_variance": None if fvu is None else 1 - fvu,
        "explained_variance_per_token": 1 - s["error_share"],
        "mse": s["error"],
        "cosine": s["cosine"],
        "l2_ratio": s["l2_ratio"],
        "relative_reconstruction_bias": _ratio(s["square_hat"], s["dot"]),
        "fvu_skip": _ratio(s["skip_error"], s["variance"]) if "skip_error" in s else None,
    }


def _means(layers: list[dict[str, float | None]]) -> dict[str, float | None]:
    """Over layers; None where a layer has none."""
    found: dict[str, float | None] = {}
    for name in layers[0]:
        values = [value for layer in layers if (value := layer[name]) is not None]
        found[name] = sum(values) / len(values) if len(values) == len(layers) else None
    return found


def firing(frequency_F: Tensor) -> dict[str, Any]:
    """How many latents are dead, rare and dense, and how often all of them fire."""
    alive_F = frequency_F > 0
    return {
        "latents": len(frequency_F),
        "alive": int(alive_F.sum()),
        "alive_fraction": float(alive_F.double().mean()),
        "dead": int((~alive_F).sum()),
        "rare": int((alive_F & (frequency_F < RARE_BELOW)).sum()),
        "rare_below": RARE_BELOW,
        "dense": int((frequency_F >= DENSE_FROM).sum()),
        "dense_from": DENSE_FROM,
        "density": density_histogram(frequency_F),
    }


@torch.no_grad()
def quality(
    sae: SavedSae, x_MD: Tensor, y_MO: Tensor, beat: Callable[[], object] = lambda: None
) -> Quality:
    """Over all held activations; `y` is `x` itself where the SAE reconstructs what it reads."""
    found = Quality(sae, y_MO.mean(0, dtype=torch.float64).float().to(sae.W_enc.device))
    for start in range(0, len(x_MD), _TOKENS_AT_ONCE):
        some = slice(start, start + _TOKENS_AT_ONCE)
        x_BD = x_MD[some].to(sae.W_enc.device).float()
        y_BO = x_BD if y_MO is x_MD else y_MO[some].to(sae.W_enc.device).float()
        found.add(x_BD, y_BO)
        beat()
    return found


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
