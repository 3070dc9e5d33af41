"""Activations kept on disk for later runs: files, checksums, locks, limit and eviction.

The web application imports this to show it, so it loads no torch; tensors are `shelf.py`'s.
"""

from .entry import Entry, Manifest, OpenEntry
from .folder import CacheFolder, Eviction
from .identity import Identity, model_digest
from .shard import DamagedShard
from .shard import read as read_shard
from .shard import write as write_shard

__all__ = [
    "CacheFolder",
    "DamagedShard",
    "Entry",
    "Eviction",
    "Identity",
    "Manifest",
    "OpenEntry",
    "model_digest",
    "read_shard",
    "write_shard",
]
