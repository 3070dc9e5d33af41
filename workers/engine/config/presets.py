"""Recipes by name: what trained well, beside the defaults, which are the product requirements'.

Each says what it reached and where that was measured. Names go where a command line takes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from .hyperparameters import Architecture


@dataclass(frozen=True)
class Preset:
    """A recipe for one architecture. `hyperparameters` has only what differs from the defaults."""

    name: str
    architecture: Architecture
    sentence: str
    hyperparameters: Mapping[str, Any]


def _preset(name: str, architecture: Architecture, sentence: str, **h: Any) -> Preset:
    """Every recipe at the largest of the usual learning rates."""
    return Preset(name, architecture, sentence, MappingProxyType({"learning_rate": 1e-3} | h))


_STANDARD, _JUMPRELU = Architecture.STANDARD, Architecture.JUMPRELU
_SKIP, _TRANSCODER = Architecture.SKIP, Architecture.TRANSCODER
_BATCHTOPK, _MATRYOSHKA = Architecture.BATCHTOPK, Architecture.MATRYOSHKA
_GATED, _P_ANNEALED = Architecture.GATED, Architecture.P_ANNEALED
_CROSSCODER = Architecture.CROSSCODER
# Held-out FVU, L0 and latents alive after 195,584 tokens in docs/experiments; more do better.
_ALL: Final = (
    _preset("topk-32", _STANDARD, "FVU 0.082 at L0 32.0, 96 % alive.", top_k_sparsity=0.695),
    _preset("topk-64", _STANDARD, "FVU 0.068 at L0 64.0, 99 % alive.", top_k_sparsity=1.39),
    _preset("standard-l0-64", _STANDARD, "FVU 0.084 at L0 62.8, 100 % alive.", target_l0=64),
    _preset("jumprelu-l0-64", _JUMPRELU, "FVU 0.066 at L0 58.5, 98 % alive.", target_l0=64),
    _preset("jumprelu-l0-32", _JUMPRELU, "FVU 0.085 at L0 29.2, 85 % alive.", target_l0=32),
    _preset("skip-topk-64", _SKIP, "FVU 0.029 at L0 62.9, 82 % alive.", top_k_sparsity=1.39),
    _preset(
        "transcoder-topk-64", _TRANSCODER, "FVU 0.081 at L0 64.0, 98 % alive.", top_k_sparsity=1.39
    ),
    _preset("batchtopk-64", _BATCHTOPK, "FVU 0.065 at L0 63.7, 99 % alive.", target_l0=64),
    _preset("matryoshka-64", _MATRYOSHKA, "FVU 0.073 at L0 63.2, 96 % alive.", target_l0=64),
    _preset("gated-l0-64", _GATED, "FVU 0.066 at L0 62.5, 100 % alive.", target_l0=64),
    _preset("p-annealed-l0-64", _P_ANNEALED, "FVU 0.075 at L0 58.4, 99 % alive.", target_l0=64),
    _preset(
        "crosscoder-topk-64", _CROSSCODER, "FVU 0.077 at L0 64.0, 90 % alive.", top_k_sparsity=1.39
    ),
)

PRESETS: Final[Mapping[str, Preset]] = MappingProxyType({preset.name: preset for preset in _ALL})
