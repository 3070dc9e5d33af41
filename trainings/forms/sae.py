"""An SAE to take in from elsewhere."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from trainings.models import Tokenization
from trainings.sources import check_local_path
from workers.engine.config.sae_job import HOOKS

from .catalog import HUB_ID

SOURCES = (("hub", "Hugging Face"), ("folder", "Local folder"))


class ImportForm(forms.Form):
    """Where it lies, and the text of whose model it is evaluated on."""

    source = forms.ChoiceField(choices=SOURCES)
    location = forms.CharField(
        max_length=300,
        label="Hugging Face id or folder",
        help_text="A folder of SAELens or sparsify: cfg.json and its safetensors.",
    )
    subfolder = forms.CharField(
        max_length=190,
        required=False,
        label="Folder in the repository",
        help_text="Such as blocks.5.hook_resid_post or layers.5; empty: the repository's own.",
    )
    revision = forms.CharField(
        max_length=100, required=False, help_text="Branch, tag or commit; empty for the newest."
    )
    tokenization = forms.ModelChoiceField(
        Tokenization.objects.none(),
        label="Model and text",
        help_text="The model it was trained on, and a text of it to evaluate it on.",
    )
    name = forms.CharField(
        max_length=255, required=False, help_text="Empty: the last part of where it lies."
    )
    layer = forms.IntegerField(
        min_value=0,
        max_value=10_000,
        required=False,
        help_text="Only where its folder does not say which block's output it reads.",
    )
    hook = forms.ChoiceField(
        choices=[("", "as its folder says"), *((h, h) for h in HOOKS)], required=False
    )

    def __init__(self, data: Any = None) -> None:
        super().__init__(data, auto_id="import-%s")
        texts = Tokenization.objects.ready().select_related("model", "dataset")
        self.fields["tokenization"].queryset = texts  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if "location" in cleaned and "source" in cleaned:
            self._clean_location(cleaned)
        if cleaned.get("hook") and cleaned.get("layer") is None and "layer" not in self.errors:
            self.add_error("layer", "Name the layer, too, or leave the hook as its folder says.")
        parts = cleaned.get("subfolder", "").split("/")
        if any(part in (".", "..") for part in parts) or "\\" in cleaned.get("subfolder", ""):
            self.add_error("subfolder", "Write names of folders with / between them.")
        return cleaned

    def _clean_location(self, cleaned: dict[str, Any]) -> None:
        if cleaned["source"] == "hub":
            if not HUB_ID.fullmatch(cleaned["location"]):
                self.add_error("location", "Write an id of the hub: owner/name.")
            return
        try:
            cleaned["location"] = str(check_local_path(cleaned["location"]))
        except ValidationError as error:
            self.add_error("location", error)
        if cleaned.get("subfolder") or cleaned.get("revision"):
            self.add_error("location", "A local folder has no revision and no folder in it here.")
