"""Tokens as a page shows them: readable, and shaded by how active a latent is at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# How many of the strongest are told in words.
TOLD = 3
# Shades that the stylesheet has, from none to the strongest.
SHADES = 9
_VISIBLE = {"\n": "↵", "\t": "⇥", "\r": "␍"}


@dataclass(frozen=True)
class Token:
    """`text` with line ends made visible; `shade` 0 to SHADES."""

    text: str
    value: float
    shade: int
    peak: bool = False


def shaded(
    tokens: Sequence[str], values: Sequence[float], largest: float, peak: int | None = None
) -> list[Token]:
    """Shades are shares of `largest`; whatever is active at all has one."""
    return [
        Token(visible(text), value, _shade(value, largest), i == peak)
        for i, (text, value) in enumerate(zip(tokens, values, strict=True))
    ]


def told(tokens: Sequence[Token]) -> str:
    """The strongest of them in words, for whoever sees no shades; empty where none is active."""
    active = sorted((token for token in tokens if token.shade), key=lambda token: -token.value)
    return ", ".join(f"“{token.text.strip()}” {token.value:.3g}" for token in active[:TOLD])


def visible(text: str) -> str:
    return "".join(_VISIBLE.get(character, character) for character in text)


def _shade(value: float, largest: float) -> int:
    if value <= 0 or largest <= 0:
        return 0
    return max(1, min(SHADES, round(SHADES * value / largest)))
