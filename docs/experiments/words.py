"""Numbers and tables as the documents print them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_TIMES = ((365.25 * 86_400, "years"), (86_400, "days"), (3600, "h"), (60, "min"), (1, "s"))


def number(value: float) -> str:
    """Three digits that count: 0.0123, 1.23, 123, 12,300."""
    if value == 0:
        return "0"
    text = f"{value:.3g}"
    return f"{float(text):,.0f}" if abs(float(text)) >= 100 else text


def amount(value: float, unit: str) -> str:
    """With a prefix: 1.5 GB, 320 MB, 4.03 GFLOP."""
    for size, prefix in _PREFIXES:
        if value >= 0.9995 * size:
            return f"{number(value / size)} {prefix}{unit}"
    return f"{number(value)} {unit}"


def duration(seconds: float) -> str:
    """In the largest unit of which there are two: 45 s, 90 min, 6.4 h."""
    for size, unit in _TIMES:
        if seconds >= 2 * size:
            return f"{number(seconds / size)} {unit}"
    return f"{number(1000 * seconds)} ms" if seconds < 1 else f"{number(seconds)} s"


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(
        "|" + "|".join(f" {cell} " if cell else " " for cell in line) + "|" for line in lines
    )
