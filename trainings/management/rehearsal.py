"""What a training will take, for a terminal."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError
from django.template.defaultfilters import filesizeformat
from django.utils.timesince import timesince
from django.utils.timezone import now

from trainings.models import Tokenization
from trainings.shortage import shortages
from workers.engine.config import TrainingConfig, plan


def rehearse(tokenization: Tokenization, config: TrainingConfig) -> dict[str, Any]:
    """The engine's measurement. Raises `ConfigError`, or `CommandError` with its sentence."""
    from workers import rehearsal

    if tokenization.model.facts:
        plan(config, tokenization.model.facts)
    try:
        return rehearsal.measure(tokenization, config)
    except rehearsal.RehearsalError as error:
        raise CommandError(str(error)) from error


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
    lines += [f"Warning {sentence}" for sentence in shortages(found)]
    return "\n".join(lines).replace("\xa0", " ")


def _cache(found: dict[str, Any]) -> str:
    """What the activation cache gives to the run, and takes from it."""
    if found["cached_fraction"] is None:
        return "off"
    there = f"{found['cached_fraction']:.0%} of the activations are there"
    return f"{there}; it grows by {filesizeformat(found['cache_bytes'])}"
