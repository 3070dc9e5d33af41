"""A few steps of a training not yet started: what it will take in time, memory and disk."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch

from . import machine
from .activations import Reader, Stream, chunk_contexts
from .advance import advance
from .config import Plan, RunSpec
from .language_model import LanguageModel, dtype_name, settled_dtype
from .order import Order
from .state import State
from .train import Asked, sites

_STEPS = 5
# As many tokens as the normalization is estimated on; a whole buffer would take minutes.
_CHUNK_TOKENS = 32_768
_KEPT_CHECKPOINTS = 4  # the newest three and the best


@dataclass(frozen=True)
class Rehearsal:
    """Times are of this machine as it is now; bytes are of the whole process at its peak.

    The steps are timed at the start, where most latents are active; a ReLU or JumpReLU gets faster
    once few are. `disk_bytes` counts the checkpoints kept, one being written, and the SAE. What was
    available is None where the machine does not tell.
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
    device: str
    dtype: str

    def to_dict(self) -> dict[str, Any]:
        return {"event": "rehearsed", "step": 0, **asdict(self)}


def rehearse(spec: RunSpec) -> Rehearsal:
    """Load the model, read one small chunk, train a few steps on it; nothing is written.

    Raises what `train` raises.
    """
    begun = time.perf_counter()
    asked = Asked.by(spec)
    plan, tokens, split, device = asked.plan, asked.tokens, asked.split, asked.device
    h = plan.hyperparameters
    available = machine.available_bytes()
    gpu_available = machine.gpu_left_bytes(device) if device.type == "cuda" else None
    dtype = settled_dtype(h.dtype, device)
    model = LanguageModel.load(spec.model_path, sites(plan), device, dtype)
    reader = Reader(model, tokens, device)
    loading = time.perf_counter() - begun
    # A large model is loaded whole before what lies behind the layer is dropped.
    at_loading = machine.peak_bytes()
    machine.forget_peak()

    chunk_tokens = min(h.buffer_tokens, max(_CHUNK_TOKENS, h.batch_size))
    order = Order(split.training, chunk_contexts(tokens, chunk_tokens), h.seed)
    stream = Stream(reader, order, h.batch_size, bool)
    reader.read(order.contexts(0)[:1])  # the first pass prepares what later ones use
    reader.seconds = 0.0
    state = State.fresh(plan, device, dtype)
    first = stream.first_chunk()
    state.settle(first)
    read_tokens, per_token = len(first), reader.seconds / len(first)
    seconds = [_timed(state, plan, stream, reader) for _ in range(_STEPS)]
    step_seconds = statistics.median(seconds[1:])
    tensors, _ = state.snapshot()
    checkpoint_bytes = sum(value.nbytes for value in tensors.values())

    # What a run holds besides: the rest of a buffer (twice while its parts are joined); and of a
    # checkpoint the copy that is written, and the tensor that is read back to be compared with it.
    held_tokens = min(h.buffer_tokens, split.n_usable)
    widths = plan.d_in + (plan.d_out if plan.has_own_target else 0)
    more = 2 * max(0, held_tokens - read_tokens) * widths * first.x.element_size()
    at_steps = machine.peak_bytes() + checkpoint_bytes + max(t.nbytes for t in tensors.values())
    on_gpu = None
    if device.type == "cuda":
        on_gpu = torch.cuda.max_memory_allocated(device) + more
    else:
        at_steps += more
    total_tokens = plan.total_tokens + h.held_out_tokens
    training = plan.total_tokens / h.batch_size * step_seconds
    whole = loading + total_tokens * per_token + training
    checkpoints = min(_KEPT_CHECKPOINTS, -(-h.num_steps // h.checkpoint_interval)) + 1
    return Rehearsal(
        seconds=whole,
        tokens_per_second=h.batch_size / (h.batch_size * per_token + step_seconds),
        extraction_tokens_per_second=1 / per_token,
        step_seconds=step_seconds,
        memory_bytes=max(at_loading, at_steps),
        memory_available_bytes=available,
        gpu_memory_bytes=on_gpu,
        gpu_memory_available_bytes=gpu_available,
        disk_bytes=checkpoints * checkpoint_bytes + checkpoint_bytes // 3,
        device=device.type,
        dtype=dtype_name(dtype),
    )


def _timed(state: State, plan: Plan, stream: Stream, reader: Reader) -> float:
    """Seconds of one step, reading not counted."""
    begun, read = time.perf_counter(), reader.seconds
    advance(state, plan, stream.next())
    state.window.read()  # waits for the device
    return time.perf_counter() - begun - (reader.seconds - read)
