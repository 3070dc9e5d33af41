"""A few steps of a training not yet started: what it will take in time, memory and disk."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from . import machine
from .activations import Activations
from .advance import advance
from .asked import Asked
from .config import Plan, RunSpec
from .language_model import dtype_name, held_dtype, settled_dtype
from .prospect import prospect
from .reading import Reading
from .start import Start
from .state import State
from .stream import Stream

_STEPS = 5
# As many tokens as the normalization is estimated on; a whole buffer would take minutes.
_CHUNK_TOKENS = 32_768
_KEPT_CHECKPOINTS = 4  # the newest three and the best


@dataclass(frozen=True)
class Rehearsal:
    """Times are of this machine as it is now; bytes are of the whole process at its peak.

    The steps are timed at the start, where most latents are active; a ReLU or JumpReLU gets faster
    once few are. `disk_bytes` counts the checkpoints kept, one being written, and the SAE;
    `cache_bytes` is what the activation cache grows by, and `cached_fraction` is the share of the
    activations that lie there already, null where the run has no cache. What was available is None
    where the machine does not tell.
    """

    seconds: float
    tokens_per_second: float
    extraction_tokens_per_second: float
    step_seconds: float
    memory_bytes: int
    memory_available_bytes: int | None
    gpu_memory_bytes: int | None
    gpu_memory_available_bytes: int | None
    disk_bytes: int
    cache_bytes: int
    cached_fraction: float | None
    device: str
    dtype: str

    def to_dict(self) -> dict[str, Any]:
        return {"event": "rehearsed", "step": 0, **asdict(self)}


def rehearse(spec: RunSpec) -> Rehearsal:
    """Read one small chunk, by the model or from the cache, and train a few steps on it.

    Nothing is left behind. Raises what `train` raises.
    """
    begun = time.perf_counter()
    asked = Asked.by(spec)
    plan, tokens, split, device = asked.plan, asked.tokens, asked.split, asked.device
    h = plan.hyperparameters
    available = machine.available_bytes()
    gpu_available = machine.gpu_left_bytes(device) if device.type == "cuda" else None
    dtype, held = settled_dtype(h.dtype, device), held_dtype(h.dtype)
    start = Start.read(spec.start_from, plan).sae if spec.start_from else None
    reading = Reading(spec, plan, tokens, split.groups, device, dtype, held)
    preparing = time.perf_counter() - begun

    stream = Stream(reading.reader(None), asked.order, h.batch_size, bool)
    ahead = stream.groups_ahead(plan.total_tokens)
    ahead.update(split.held_out.numbers.tolist())
    total_tokens = plan.total_tokens + h.held_out_tokens
    chunk_tokens = min(h.buffer_tokens, max(_CHUNK_TOKENS, h.batch_size))
    found = prospect(reading, ahead, total_tokens, chunk_tokens)
    first, per_token = found.sample, found.seconds / total_tokens
    # A large model is loaded whole before what lies behind the layer is dropped.
    at_loading = machine.peak_bytes()
    machine.forget_peak()
    state = State.fresh(plan, device, dtype)
    state.settle(first, start)
    seconds = [_timed(state, plan, first, number) for number in range(_STEPS)]
    step_seconds = statistics.median(seconds[1:])
    tensors, _ = state.snapshot()
    # The copy of a checkpoint, which lies in memory while the next step is made.
    copies = [value.cpu().clone() for value in tensors.values()]
    _timed(state, plan, first, _STEPS)
    checkpoint_bytes = sum(copy.nbytes for copy in copies)

    # What a run holds besides: the rest of a buffer, and a tensor of the checkpoint that is read
    # back to be compared with the copy.
    held_tokens = min(h.buffer_tokens, split.n_usable)
    more = max(0, held_tokens - len(first)) * reading.bytes_per_token
    at_steps = machine.peak_bytes() + max(copy.nbytes for copy in copies)
    on_gpu = None
    if device.type == "cuda":
        ahead_of_steps = held_tokens * reading.bytes_per_token  # the chunk that is read meanwhile
        on_gpu = torch.cuda.max_memory_allocated(device) + more + ahead_of_steps
    else:
        at_steps += more
    training = plan.total_tokens / h.batch_size * step_seconds
    checkpoints = min(_KEPT_CHECKPOINTS, -(-h.num_steps // h.checkpoint_interval)) + 1
    return Rehearsal(
        seconds=preparing + found.loading_seconds + found.seconds + training,
        tokens_per_second=h.batch_size / (h.batch_size * per_token + step_seconds),
        extraction_tokens_per_second=1 / per_token,
        step_seconds=step_seconds,
        memory_bytes=max(at_loading, at_steps),
        memory_available_bytes=available,
        gpu_memory_bytes=on_gpu,
        gpu_memory_available_bytes=gpu_available,
        disk_bytes=checkpoints * checkpoint_bytes + checkpoint_bytes // 3,
        cache_bytes=found.cache_bytes,
        cached_fraction=found.cached_fraction,
        device=device.type,
        dtype=dtype_name(dtype),
    )


def _timed(state: State, plan: Plan, chunk: Activations, number: int) -> float:
    """Seconds of one step on tokens drawn from the chunk."""
    shuffled = np.random.default_rng(number).permutation(len(chunk))
    begun = time.perf_counter()
    batch = chunk.rows(np.resize(shuffled, plan.hyperparameters.batch_size))
    advance(state, plan, batch)
    state.window.read()  # waits for the device
    return time.perf_counter() - begun
