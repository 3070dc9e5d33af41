"""A form's field of one hyperparameter."""

from __future__ import annotations

from django import forms

from workers.engine.config import FieldSpec


def hyper_field(spec: FieldSpec) -> forms.Field:
    """A field that takes any text: range and type are judged where they are declared."""
    help_text = f"{spec.sentence} {_range_help(spec)}".strip()
    if spec.kind == "choice":
        empty = [("", f"Automatic: {spec.automatic}")] if spec.optional else []
        choices = empty + [(choice, choice.replace("_", " ")) for choice in spec.choices]
        return forms.ChoiceField(
            choices=choices,
            required=False,
            label=spec.label,
            help_text=help_text,
        )
    mode = {"int": "numeric", "float": "decimal"}.get(spec.kind, "text")
    attrs = {"inputmode": mode, "autocomplete": "off", "spellcheck": "false"}
    if spec.automatic:
        attrs["placeholder"] = spec.automatic
    return forms.CharField(
        required=False,
        label=spec.label,
        help_text=help_text,
        widget=forms.TextInput(attrs=attrs),
    )


def _range_help(spec: FieldSpec) -> str:
    if not spec.range_text:
        return ""
    return f"{spec.range_text} {spec.unit}".strip() + "."
