"""What users send: a training to start, a model, a dataset, a tokenization."""

from .catalog import DatasetForm, ModelForm, TokenizationForm
from .notes import NotesForm
from .start import StartForm, texts

__all__ = ["DatasetForm", "ModelForm", "NotesForm", "StartForm", "TokenizationForm", "texts"]
