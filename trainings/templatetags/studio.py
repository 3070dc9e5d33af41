"""How numbers, times and icons look, the same on a page and in a live update.

A template passes an empty text for what is missing; it is shown as nothing known.
"""

from __future__ import annotations

import math
from typing import Any

from django import template
from django.template.loader import render_to_string
from django.utils.safestring import SafeString, mark_safe

from trainings import rights
from trainings.tokens import Token
from trainings.tokens import told as told_tokens
from trainings.tokens import visible as visible_token

register = template.Library()

NOTHING = "–"
_SIZES = ("B", "kB", "MB", "GB", "TB")


@register.filter
def number(value: Any) -> str:
    """Four significant figures, `k` and `M` for the large: 0.02340, 45.20, 5,446, 12.35k."""
    if value in (None, "") or not math.isfinite(value):
        return NOTHING
    size = abs(value)
    if size == 0:
        return "0"
    for limit, unit in ((1e6, "M"), (1e4, "k")):
        if size >= limit:
            return f"{_four(value / (limit if unit == 'M' else 1e3))}{unit}"
    return _four(value) if size >= 1e-3 else f"{value:.3e}".replace("e-0", "e-")


def _four(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.4g}".rstrip(".")


@register.filter
def may_change(user: Any, row: Any) -> bool:
    """Whether what changes the row is offered."""
    return rights.may_change(user, row)


@register.filter
def count(value: Any) -> str:
    """A whole number with its thousands apart."""
    return NOTHING if value in (None, "") else f"{value:,}"


@register.filter
def fixed(value: Any, places: int) -> str:
    if value in (None, "") or not math.isfinite(value):
        return NOTHING
    return f"{value:.{places}f}"


@register.filter
def figure(value: Any, form: str) -> str:
    """A figure of a scorecard, as its entry says that it is written."""
    if form == "count":
        return count(value)
    return number(value) if form == "number" else fixed(value, 4)


@register.filter
def coordinate(value: float) -> str:
    """A coordinate of a drawing."""
    return f"{value:.1f}"


@register.filter
def percent(share: Any) -> str:
    """A share as whole percent, rounded down so that 100 % means done."""
    return NOTHING if share in (None, "") else f"{math.floor(share * 100 + 1e-9)} %"


@register.filter
def share(value: Any) -> str:
    """A share that may be small, as percent of three significant figures: 1.23 %, 0.0046 %."""
    return NOTHING if value in (None, "") else f"{100 * value:.3g} %"


@register.filter
def visible(text: str) -> str:
    """A token with its line ends made visible."""
    return visible_token(text)


@register.filter
def told(tokens: list[Token]) -> str:
    """The strongest of a text's tokens in words."""
    return told_tokens(tokens)


@register.filter
def duration(seconds: float | None) -> str:
    """Two units at most: 45 s, 12 min, 3 h 05 min, 2 d 4 h."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes < 60:
        return f"{minutes} min {whole % 60:02d} s" if minutes < 10 else f"{minutes} min"
    if hours < 24:
        return f"{hours} h {minutes % 60:02d} min"
    return f"{days} d {hours % 24} h"


@register.filter
def filesize(size: int | None) -> str:
    """Bytes with a decimal unit: 21.3 MB."""
    if size is None:
        return NOTHING
    value, unit = float(size), 0
    while value >= 1000 and unit < len(_SIZES) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.3g} {_SIZES[unit]}"


@register.simple_tag
def icon(name: str) -> SafeString:
    """An inline drawing from templates/icons; decoration, the word stands beside it."""
    return mark_safe(render_to_string(f"icons/{name}.svg"))
