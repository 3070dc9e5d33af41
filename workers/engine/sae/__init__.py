"""Sparse autoencoders: four architectures, each also with TopK in place of its activation.

Legend of shapes: B tokens, D input width, O target width, F latents, K active latents.
"""

from .base import Sae, project, remove_parallel
from .build import build, spread, start_at
from .jumprelu import JumpRelu
from .skip import Skip
from .standard import Standard
from .step import Step, Weights
from .transcoder import Transcoder

__all__ = [
    "JumpRelu",
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
