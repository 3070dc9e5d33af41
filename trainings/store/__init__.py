"""What one host makes and others use: artefacts at an fsspec address, with this host's own folder
between. Without `SAESTUDIO_STORE` nothing here does or loads anything."""

from .artefacts import (
    DRAFT,
    bytes_below,
    check,
    children,
    discard,
    discard_later,
    drop_copy,
    fetch,
    has,
    holds,
    on,
    out_of_reach,
    put,
    remove_local,
    unused_since,
)
from .mark import mark
from .remote import Absent, Away, Damaged, GoOn, StoreError, rest

__all__ = [
    "DRAFT",
    "Absent",
    "Away",
    "Damaged",
    "GoOn",
    "StoreError",
    "bytes_below",
    "check",
    "children",
    "discard",
    "discard_later",
    "drop_copy",
    "fetch",
    "has",
    "holds",
    "mark",
    "on",
    "out_of_reach",
    "put",
    "remove_local",
    "rest",
    "unused_since",
]
