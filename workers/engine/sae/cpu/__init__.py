"""The sparse step on a processor: loops compiled by Numba, shared out over threads.

Torch has no operation for what a sparse step does most: pick a few latents of a row, read only
their rows of the decoder, add up a latent's tokens. Each function here equals a few lines of torch
in `pairs.py`, and tests compare the two. Every number is made by one thread in a fixed order, so a
result does not depend on how many threads there are.
"""

from .columns import sums
from .directions import normalize, remove_parallel
from .latents import gradients
from .rows import above, top
from .tokens import decode, reconstruct

__all__ = [
    "above",
    "decode",
    "gradients",
    "normalize",
    "reconstruct",
    "remove_parallel",
    "sums",
    "top",
]
