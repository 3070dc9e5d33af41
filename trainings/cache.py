"""Where this studio keeps activations for later trainings, and how many it keeps."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings

from workers.engine.cache import CacheFolder
from workers.engine.config import CacheSpec


def folder() -> CacheFolder:
    """All that is kept, whether or not more may be."""
    return CacheFolder(Path(settings.HOME, "cache"), settings.CACHE_LIMIT)


def spec() -> CacheSpec | None:
    """What a training is told of it; None where the cache is off."""
    found = folder()
    return CacheSpec(folder=found.path, limit_bytes=found.limit) if found.limit else None
