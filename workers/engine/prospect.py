"""What reading its activations will take a run, by the model and from the cache."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from .activations import Activations
from .cache import CacheFolder
from .forward import Forward
from .reading import Reading

_PLENTY = 2**62


@dataclass(frozen=True)
class Prospect:
    """`seconds` are for all the tokens of the run; `cache_bytes` is what it will store.

    Of the groups it is to read, `cached_fraction` are in the cache; null where it has none.
    `sample` is a chunk of them, read in `loading_seconds` and some. `forward` keeps the model in
    memory, as a run does; null where none was needed.
    """

    sample: Activations
    seconds: float
    loading_seconds: float
    cached_fraction: float | None
    cache_bytes: int
    forward: Forward | None


def prospect(reading: Reading, ahead: set[int], n_tokens: int, chunk_tokens: int) -> Prospect:
    """Measure on about `chunk_tokens` what reading `n_tokens` from these groups will take."""
    cache = reading.cache
    stored = ahead & reading.stored(cache) if cache else set()
    missing = ahead - stored
    m = reading.tokens.manifest
    most = max(1, chunk_tokens // (reading.groups.size * (m.context_length - m.bos)))
    # A chunk is read whole, even if the run ends within it.
    unique, unseen = _tokens(reading, ahead), _tokens(reading, missing)
    n_tokens = max(n_tokens, unique)
    growth = unseen * reading.bytes_per_token
    kept = min(1.0, max(0, cache.capacity()) / growth) if cache and growth else 0.0

    # A token is computed when it comes first, and again if it could not be kept.
    computed = unseen * (1 + (n_tokens / unique - 1) * (1 - kept))
    seconds = loading = 0.0
    forward = None
    if cache and stored:
        sample = _from_cache(reading, cache, sorted(stored)[:most])
        seconds += (n_tokens - computed) * sample.seconds / len(sample)
    if missing:
        sample, again, forward = _from_model(reading, sorted(missing)[: most + 1])
        loading = forward.loading_seconds
        seconds += computed * sample.seconds / len(sample)
        if not stored:
            seconds += (n_tokens - computed) * again.seconds / len(again)
    fraction = len(stored) / len(ahead) if cache else None
    return Prospect(sample, seconds, loading, fraction, int(growth * kept), forward)


def _tokens(reading: Reading, groups: set[int]) -> int:
    """Tokens of these groups, as if all contexts were full."""
    m = reading.tokens.manifest
    contexts = sum(len(reading.groups.whole(number)) for number in groups)
    return contexts * (m.context_length - m.bos)


def _from_cache(reading: Reading, cache: CacheFolder, groups: list[int]) -> Activations:
    with reading.shelf(cache) as shelf:
        return reading.reader(shelf).read([reading.groups.part(number) for number in groups])


def _from_model(reading: Reading, groups: list[int]) -> tuple[Activations, Activations, Forward]:
    """A chunk as it is computed, a group read again, and what computed them.

    Where the run has a cache, what is computed is stored as it will be, in a folder that goes
    again. The first pass, which prepares what later ones use, is not counted.
    """
    parts = [reading.groups.part(number) for number in groups]
    with ExitStack() as stack:
        shelf = None
        if reading.cache:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            shelf = stack.enter_context(reading.shelf(CacheFolder(folder, _PLENTY)))
        reader = reading.reader(shelf)
        first = reader.read(parts[:1])
        chunk = reader.read(parts[1:]) if len(parts) > 1 else first
        return chunk, reader.read(parts[:1]), reader.forward
