"""Colour and shape of points that stand for one thing, so that neither has to be told alone."""

from __future__ import annotations

from dataclasses import dataclass

from .sae_card import COLOURS

# As the charts and templates/sae/_mark.html draw them.
SHAPES = ("circle", "rect", "triangle", "rectRot")


@dataclass(frozen=True)
class Mark:
    colour: int
    shape: str


def mark(number: int) -> Mark:
    """One of 24 that differ, for the first so many numbers from 0."""
    shift = number // (COLOURS * len(SHAPES) // 2)
    return Mark(number % COLOURS + 1, SHAPES[(number + shift) % len(SHAPES)])
