"""What a training needs and the machine lacks, as sentences. They warn; nothing is refused."""

from __future__ import annotations

import shutil
from typing import Any

from django.conf import settings

from trainings.templatetags.studio import filesize


def shortages(figures: dict[str, Any]) -> list[str]:
    """Of memory as the machine was when it was measured, of disk as it is now."""
    found = []
    for needed, there, what in (
        ("memory_bytes", "memory_available_bytes", "memory"),
        ("gpu_memory_bytes", "gpu_memory_available_bytes", "GPU memory"),
    ):
        if _exceeds(figures.get(needed), figures.get(there)):
            found.append(
                f"It needs {filesize(figures[needed])} of {what}, and {filesize(figures[there])} "
                "was available when it was measured: it may run out. A smaller batch, buffer or "
                "latent dimension needs less."
            )
    free = shutil.disk_usage(settings.HOME).free
    if _exceeds(figures["disk_bytes"], free):
        found.append(
            f"It needs up to {filesize(figures['disk_bytes'])} of disk, and {filesize(free)} is "
            "free: a checkpoint may fail. Free some, or save less often."
        )
    return found


def _exceeds(needed: int | None, there: int | None) -> bool:
    return needed is not None and there is not None and needed > there
