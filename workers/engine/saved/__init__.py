"""SAEs as they lie on the disk, ours and other tools', each read into one class."""

from .folder import UnreadableSae, open_sae
from .refusal import CannotExport
from .sae import Kind, SavedSae

__all__ = ["CannotExport", "Kind", "SavedSae", "UnreadableSae", "open_sae"]
