"""The templates and presets to choose from, wherever a page offers them."""

from __future__ import annotations

from typing import Any

from django import template

from templates_app.models import TrainingTemplate
from workers.engine.config import PRESETS

register = template.Library()
MENU = 12


@register.inclusion_tag("template/_menu.html")
def template_menu() -> dict[str, Any]:
    """The panel's menu: favourites first, then what was used last."""
    rows = TrainingTemplate.objects.order_by("-is_favorite", "-last_used_at", "name")
    return {
        "rows": rows[:MENU],
        "more": max(0, rows.count() - MENU),
        "presets": PRESETS.values(),
    }


@register.inclusion_tag("template/_choose.html", takes_context=True)
def template_choice(context: Any) -> dict[str, Any]:
    """The dialog's list; the one that was loaded stays chosen."""
    return {
        "rows": list(TrainingTemplate.objects.all()),
        "presets": PRESETS.values(),
        "chosen": str(context["form"].filled.get("template", "")),
        "in_page": bool(getattr(context["request"], "htmx", False)),
    }


@register.inclusion_tag("template/_keep.html", takes_context=True)
def template_keep(context: Any) -> dict[str, Any]:
    """Where the dialog's settings are kept as a template."""
    return {"form": context["form"], "request": context["request"]}


@register.filter
def loaded(form: Any) -> TrainingTemplate | None:
    """The template whose settings were put into the form."""
    return TrainingTemplate.objects.of(form.filled.get("template", "")).first()
