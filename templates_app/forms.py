"""A template to change, settings to keep, a file to import."""

from __future__ import annotations

import json
from typing import Any

from django import forms

from workers.engine.config import ConfigError

from .exchange import MOST_BYTES
from .models import TrainingTemplate
from .settings import MOST_DESCRIPTION, settled


class TemplateForm(forms.ModelForm[TrainingTemplate]):
    """Name, description and the settings themselves, as JSON: what is left out is the default."""

    settings = forms.CharField(
        label="Settings",
        widget=forms.Textarea(attrs={"rows": 12, "spellcheck": "false", "class": "code"}),
        help_text="Hyperparameters that differ from their defaults, as JSON.",
    )

    class Meta:
        model = TrainingTemplate
        fields = ("name", "description", "architecture")
        widgets = {"description": forms.Textarea(attrs={"rows": 3})}

    def __init__(self, data: Any = None, *, instance: TrainingTemplate) -> None:
        changed = json.dumps(instance.changed, indent=2)
        super().__init__(data, instance=instance, auto_id="template-%s",
                         initial={"settings": changed})  # fmt: skip
        description: Any = self.fields["description"]
        description.max_length = MOST_DESCRIPTION
        architecture: Any = self.fields["architecture"]
        architecture.choices = [("", "Any"), *list(architecture.choices)[1:]]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if "settings" not in cleaned or "architecture" not in cleaned:
            return cleaned
        try:
            given = json.loads(cleaned["settings"])
        except (ValueError, RecursionError) as error:
            self.add_error("settings", f"This is no JSON: {error}.")
            return cleaned
        try:
            self.instance.hyperparameters = settled(cleaned["architecture"], given)
        except ConfigError as error:
            for problem in error.problems:
                self.add_error("settings", f"{problem.field}: {problem.message}")
        return cleaned


class KeepForm(forms.Form):
    """What the Start Training dialog holds, under a name; or in place of a template's settings."""

    kept_name = forms.CharField(max_length=255, label="Name")
    replaces = forms.UUIDField(required=False)


class ImportForm(forms.Form):
    """An exported file, sent or pasted."""

    file = forms.FileField(required=False, label="File")
    text = forms.CharField(
        required=False,
        label="Or its text",
        widget=forms.Textarea(attrs={"rows": 8, "spellcheck": "false", "class": "code"}),
    )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        file = cleaned.get("file")
        if file is not None and file.size > MOST_BYTES:
            self.add_error("file", f"It has {file.size:,} bytes; at most {MOST_BYTES:,} are read.")
        elif file is None and not cleaned.get("text", "").strip():
            self.add_error("file", "Choose a file, or paste its text.")
        else:
            data = file.read() if file is not None else cleaned["text"].encode()
            cleaned["data"] = data
        return cleaned
