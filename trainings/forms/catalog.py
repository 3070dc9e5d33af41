"""What a training reads: a model to fetch, a dataset, a tokenization."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from trainings.models import Dataset, LanguageModel, Tokenization
from trainings.sources import check_local_path

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)


class ModelForm(forms.ModelForm):  # type: ignore[type-arg]
    """A language model to fetch."""

    class Meta:
        model = LanguageModel
        fields = ("source", "location", "revision", "name")
        labels = {"location": "Hugging Face id or folder"}
        help_texts = {
            "location": "Such as HuggingFaceTB/SmolLM2-135M, or a folder with safetensors.",
            "revision": "Branch, tag or commit; empty for the newest.",
            "name": "Empty: the last part of the id or folder.",
        }

    def __init__(self, data: Any = None) -> None:
        super().__init__(data, auto_id="model-%s")
        self.fields["name"].required = False
        source = LanguageModel.Source
        _offer(self, [source.HUB, source.FOLDER])

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        _clean_location(self, local=LanguageModel.Source.FOLDER)
        return cleaned


class DatasetForm(forms.ModelForm):  # type: ignore[type-arg]
    """A dataset to read."""

    class Meta:
        model = Dataset
        fields = ("source", "location", "subset", "split", "revision", "text_column", "name")
        labels = {"location": "Hugging Face id or file", "text_column": "Text column"}
        help_texts = {
            "location": "Such as roneneldan/TinyStories, or a .txt, .jsonl or .parquet file.",
            "subset": "The dataset's configuration, where it has several.",
            "revision": "Branch, tag or commit; empty for the newest.",
            "text_column": "The column that holds the text.",
            "name": "Empty: the last part of the id or file.",
        }

    def __init__(self, data: Any = None) -> None:
        super().__init__(data, auto_id="dataset-%s")
        self.fields["name"].required = False
        self.fields["location"].required = True
        source = Dataset.Source
        _offer(self, [source.HUB, source.FILE])

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        _clean_location(self, local=Dataset.Source.FILE)
        return cleaned


class TokenizationForm(forms.ModelForm):  # type: ignore[type-arg]
    """A dataset to be cut into tokens by a model's tokenizer."""

    class Meta:
        model = Tokenization
        fields = ("dataset", "model", "context_length", "bos", "max_tokens")
        labels = {"bos": "BOS token", "max_tokens": "Token limit"}
        help_texts = {
            "context_length": "Tokens in a context; at least 8, at most the model's own.",
            "bos": "Whether a context begins with the beginning-of-sequence token.",
            "max_tokens": "Stop after so many tokens; 0 reads the whole dataset.",
        }

    def __init__(self, data: Any = None) -> None:
        super().__init__(data, auto_id="tokenization-%s")
        for name in ("dataset", "model"):
            field: Any = self.fields[name]
            field.empty_label = None
            field.queryset = field.queryset.exclude(status="failed")

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        model, length = cleaned.get("model"), cleaned.get("context_length")
        limit = model.context_length if model else None
        if limit and length and length > limit:
            self.add_error("context_length", f"{model} reads at most {limit:,} tokens.")
        return cleaned


def _offer(form: Any, sources: list[Any]) -> None:
    """Only these sources; the demo's are registered by the demo."""
    form.fields["source"].choices = [(source.value, source.label) for source in sources]
    form.fields["source"].initial = sources[0]


def _clean_location(form: Any, local: str) -> None:
    """A hub id is only an id; a local path must lie where the studio may read."""
    cleaned = form.cleaned_data
    source, location = cleaned.get("source"), str(cleaned.get("location", "")).strip()
    if not source or not location:
        return
    try:
        if source == local:
            location = str(check_local_path(location))
        elif not HUB_ID.fullmatch(location):
            raise ValidationError("Write an id such as owner/name, not an address or a path.")
    except ValidationError as error:
        form.add_error("location", error)
        return
    cleaned["location"] = location
    cleaned["name"] = cleaned.get("name") or location.rstrip("/").rpartition("/")[2]
