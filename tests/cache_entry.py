"""The identity of an entry of the activation cache, for tests that care for little of it."""

from __future__ import annotations

from typing import Any

from workers.engine.cache import Identity


def identity(layer: int, **changes: Any) -> Identity:
    whole: dict[str, Any] = {
        "model": "m",
        "tokens": "t",
        "hook": "resid_post",
        "layer": layer,
        "held": "bfloat16",
        "computed": "float32",
        "group_contexts": 16,
        "machine": "cpu",
    }
    return Identity(**whole | changes)
