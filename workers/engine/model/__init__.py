"""Language models as folders on disk; the one that computes is in `language_model.py`."""

from .folder import ModelError, ModelFolder, inspect
from .gguf_file import convert_gguf, inspect_gguf
from .size import ModelSize, model_size

__all__ = [
    "ModelError",
    "ModelFolder",
    "ModelSize",
    "convert_gguf",
    "inspect",
    "inspect_gguf",
    "model_size",
]
