"""What one host makes and others use: artefacts at an fsspec address, with this host's own folder
between. Without `SAESTUDIO_STORE` nothing here does or loads anything."""

from .artefacts import (
    check,
    children,
    discard,
    discard_later,
    fetch,
    files_of,
    has,
    is_current,
    on,
    out_of_reach,
    put,
    remove_local,
)
from .remote import Absent, Away, Damaged, GoOn, StoreError

__all__ = [
    "Absent",
    "Away",
    "Damaged",
    "GoOn",
    "StoreError",
    "check",
    "children",
    "discard",
    "discard_later",
    "fetch",
    "files_of",
    "has",
    "is_current",
    "on",
    "out_of_reach",
    "put",
    "remove_local",
]
