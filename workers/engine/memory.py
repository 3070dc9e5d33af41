"""What running out of memory looks like, and what can be done before trying again with less."""

from __future__ import annotations

import gc

import torch

# What torch says where it has no exception of its own: the allocator of a processor, the C++
# library, and the libraries of products on a GPU.
_SENTENCES = ("can't allocate memory", "std::bad_alloc", "ALLOC_FAILED")
ERRORS = (RuntimeError, MemoryError)
"""To catch; then ask `exhausted`."""


def exhausted(error: BaseException) -> bool:
    """Whether the error says that the device, or the process, has no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SENTENCES)


def release() -> None:
    """Give back what nobody holds any more.

    To be called outside the `except` clause: a caught error keeps the tensors of its frames alive.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def gigabytes(n: float) -> str:
    """Bytes for people."""
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:,.0f} MB"
