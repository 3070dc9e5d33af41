"""What a training will take, measured by the engine in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.template.defaultfilters import filesizeformat
from django.utils.timesince import timesince
from django.utils.timezone import now

from trainings import cache
from trainings.models import Tokenization
from workers.engine.config import RunSpec, TrainingConfig, plan


def rehearse(tokenization: Tokenization, config: TrainingConfig) -> dict[str, Any]:
    """The engine's measurement. Raises `ConfigError`, or `CommandError` with its sentence."""
    if tokenization.model.facts:
        plan(config, tokenization.model.facts)
    spec = RunSpec(
        training_id="rehearsal",
        name="rehearsal",
        config=config,
        model_path=tokenization.model.folder,
        model_name=tokenization.model.known_as,
        tokens_path=tokenization.folder,
        dataset_name=tokenization.dataset.name,
        cache=cache.spec(),
    )
    with tempfile.TemporaryDirectory() as folder:
        spec.write(Path(folder))
        child = subprocess.run(
            [sys.executable, "-m", "workers.engine", "--rehearse", folder],
            cwd=settings.BASE_DIR,
            capture_output=True,
            text=True,
            check=False,
        )
    lines = child.stdout.splitlines()
    if not lines:
        raise CommandError(f"The engine ended without a word: {child.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(lines[-1])
    if found["event"] == "failed":
        raise CommandError(found["error"])
    return {name: value for name, value in found.items() if name not in ("event", "step")}


def sentences(found: dict[str, Any]) -> str:
    """For reading in a terminal."""
    later = now()
    lasts = timesince(later - timedelta(seconds=found["seconds"]), later).replace("\xa0", " ")
    lines = [
        f"Time    about {lasts}, {found['tokens_per_second']:,.0f} tokens/s "
        f"(reading {found['extraction_tokens_per_second']:,.0f} tokens/s, "
        f"a step {1000 * found['step_seconds']:,.0f} ms at the start)",
        f"Memory  {filesizeformat(found['memory_bytes'])}",
        f"Disk    {filesizeformat(found['disk_bytes'])} at most",
        f"Cache   {_cache(found)}",
        f"Device  {found['device']}, {found['dtype']}",
    ]
    if found["gpu_memory_bytes"]:
        lines.insert(2, f"GPU     {filesizeformat(found['gpu_memory_bytes'])}")
    return "\n".join(lines).replace("\xa0", " ")


def _cache(found: dict[str, Any]) -> str:
    """What the activation cache gives to the run, and takes from it."""
    if found["cached_fraction"] is None:
        return "off"
    there = f"{found['cached_fraction']:.0%} of the activations are there"
    return f"{there}; it grows by {filesizeformat(found['cache_bytes'])}"
