"""What users send: a training to start, a model, a dataset, a tokenization."""

from .catalog import DatasetForm, ModelForm, TokenizationForm
from .notes import NotesForm
from .sae import ImportForm
from .start import StartForm, texts
from .vary import AddForm

__all__ = [
    "AddForm",
    "DatasetForm",
    "ImportForm",
    "ModelForm",
    "NotesForm",
    "StartForm",
    "TokenizationForm",
    "texts",
]
