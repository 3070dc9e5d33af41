"""Reading activations against the bare truncated model, and what shuffling them costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ..activations import Reader, group_shape
from ..forward import Forward
from ..language_model import LanguageModel, held_dtype
from ..order import Indices, Order, Split
from ..stream import Stream
from ..tokens import Tokens
from .timing import wait

# Tokens of one bare forward pass; the best of these counts.
_BARE_TOKENS = (1024, 2048, 4096, 8192, 16384)


@dataclass(frozen=True)
class Extraction:
    """Tokens per second of reading and of the best bare pass; seconds a batch is handed over in."""

    tokens_per_second: float
    bare_tokens_per_second: float
    bare_pass_tokens: int
    ratio: float
    hand_over_seconds: float


def measure(
    model: LanguageModel,
    tokens: Tokens,
    device: torch.device,
    batch_size: int,
    chunk_tokens: int,
    rounds: int,
) -> Extraction:
    """Chunks are read and bare passes over as many tokens run in turns."""
    stream = stream_of(model, tokens, device, batch_size, chunk_tokens)
    reader, order = stream.reader, stream.order
    length = tokens.manifest.context_length

    def bare(pass_tokens: int, contexts: Indices) -> float:
        ids = torch.from_numpy(tokens.ids[contexts].astype(np.int64)).to(device)
        begun = time.perf_counter()
        at_once = max(1, pass_tokens // length)
        for start in range(0, len(ids), at_once):
            model.capture(ids[start : start + at_once])
        wait(device)
        return ids.numel() / (time.perf_counter() - begun)

    ours: list[float] = []
    theirs: dict[int, list[float]] = {size: [] for size in _BARE_TOKENS}
    reader.read(order.parts(0)[:1])
    for number in range(rounds):
        parts = order.parts(number)
        contexts = np.concatenate([reader.groups.read(part) for part in parts])
        begun = time.perf_counter()
        reader.read(parts)
        ours.append(contexts.size * length / (time.perf_counter() - begun))
        for size, found in theirs.items():
            found.append(bare(size, contexts))
    best = max(theirs, key=lambda size: float(np.median(theirs[size])))
    ratio = float(np.median([a / b for a, b in zip(ours, theirs[best], strict=True)]))
    return Extraction(
        tokens_per_second=float(np.median(ours)),
        bare_tokens_per_second=float(np.median(theirs[best])),
        bare_pass_tokens=best,
        ratio=ratio,
        hand_over_seconds=_hand_over(stream),
    )


def stream_of(
    model: LanguageModel,
    tokens: Tokens,
    device: torch.device,
    batch_size: int,
    chunk_tokens: int,
) -> Stream:
    """Batches as a run reads them, from a model that is loaded, without a cache."""
    group, groups_per_chunk = group_shape(tokens, chunk_tokens, device)
    split = Split.of(tokens, batch_size, group)
    forward = Forward(lambda: model, tokens, split.groups, device, held_dtype("auto"))
    reader = Reader(tokens, split.groups, forward, device)
    return Stream(reader, Order(split.training, groups_per_chunk, 0), batch_size, bool)


def _hand_over(stream: Stream) -> float:
    """Seconds per batch in which the stream shuffles and gathers, the reading not counted."""
    count, read, begun = 8, stream.seconds, time.perf_counter()
    for _ in range(count):
        stream.next()
    return (time.perf_counter() - begun - (stream.seconds - read)) / count


def end_to_end(
    stream: Stream, step: Callable[..., object], device: torch.device, uncounted: int, steps: int
) -> float:
    """Tokens per second of reading, shuffling and training together, once all is warm.

    `uncounted` steps before, and `steps`, are whole chunks: the last one's tokens are all used.
    """
    for _ in range(uncounted):
        step(stream.next())
    wait(device)
    begun, seen = time.perf_counter(), 0
    for _ in range(steps):
        batch = stream.next()
        step(batch)
        seen += len(batch)
    wait(device)
    return seen / (time.perf_counter() - begun)
