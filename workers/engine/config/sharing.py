"""Whether trainings can share one stream of activations: they have to read the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .fields import show
from .problem import Problem
from .training import Plan


def reading(plan: Plan) -> dict[str, Any]:
    """All settings that a batch of activations is a function of, by the field they stand at."""
    h = plan.hyperparameters
    return {
        "layer": plan.layer,
        "layers": plan.layers if plan.architecture.spans else None,
        "hook": h.hook,
        "target": f"{plan.target_hook} of layer {plan.target_layer}",
        "dtype": h.dtype,
        "buffer_tokens": h.buffer_tokens,
        "batch_size": h.batch_size,
        "held_out_tokens": h.held_out_tokens,
        "data_seed": plan.data_seed,
    }


def differing(members: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Problem]:
    """Every field in which they, each with its name, read otherwise than the first one."""
    first_name, first = members[0]
    found: dict[str, Problem] = {}
    for name, own in members[1:]:
        for field, value in own.items():
            if value != first[field] and field not in found:
                message = (
                    f"It is {show(first[field]) or 'none'} of {first_name} and "
                    f"{show(value) or 'none'} of {name}; trainings that share their activations "
                    "need the same."
                )
                found[field] = Problem(field, message)
    return list(found.values())
