"""Sparse autoencoders, one class per architecture; TopK may take the place of an activation.

Legend of shapes: B tokens, D input width, O target width, F latents, K active latents.
"""

from .base import Sae, project, remove_parallel
from .batchtopk import BatchTopK
from .build import build, spread, start_at
from .crosscoder import Crosscoder
from .gated import Gated
from .jumprelu import JumpRelu
from .matryoshka import Matryoshka
from .p_annealed import PAnnealed
from .skip import Skip
from .standard import Standard
from .step import Step, Weights
from .transcoder import Transcoder

__all__ = [
    "BatchTopK",
    "Crosscoder",
    "Gated",
    "JumpRelu",
    "Matryoshka",
    "PAnnealed",
    "Sae",
    "Skip",
    "Standard",
    "Step",
    "Transcoder",
    "Weights",
    "build",
    "project",
    "remove_parallel",
    "spread",
    "start_at",
]
