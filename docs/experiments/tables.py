"""The tables of docs/scaling.md that follow from shapes alone."""

from __future__ import annotations

import math
from collections.abc import Iterator

from arithmetic import (
    BUFFER_TOKENS,
    FORWARD_TOKENS,
    KEPT_CHECKPOINTS,
    SPLICE_TOKENS,
    Exchange,
    Machine,
    Model,
    Sae,
    break_even_bandwidth,
    buffer_tokens,
    device_bytes,
    evaluation_flops,
    gpu_hours_in,
    reading_seconds,
    step_seconds,
    token_seconds,
)
from hardware import ACROSS, CPU, H100, H200, MODELS, WIDTHS, sae_of
from measured import checks
from queueing import best_interval
from words import amount, duration, number, table

BUDGETS = (1e8, 1e9, 4e9)
BUDGET = 1e9
SWEEP = 64
FILE_SYSTEM = 20e9
DEFAULT_CACHE, DEFAULT_INTERVAL, LOG_INTERVAL = 50e9, 10_000, 10
POINT_BYTES = 337
# Seconds of standing still for 1.02 GB, bytes a second of writing beside the training.
SAVING, WRITING, HOST_MTBF = 0.02, 64e6 / 0.576, 720 * 3600.0
# Twice a second a run writes and publishes, to the group of all and to its own.
WRITES, PUBLISHED = 2, 4
PAGE_SECONDS, CARDS = 0.102, 20


def pairs() -> Iterator[tuple[Model, int, Sae]]:
    for model in MODELS:
        for times in WIDTHS:
            yield model, times, sae_of(model, times)


def named(model: Model, times: int) -> str:
    return f"{model.name}, {times}×"


def models() -> str:
    titles = ["model", "parameters", "read after", "operations a token", "of them attention"]
    titles += ["weights on each GPU", "an activation", "a token of text", "evaluating an 8× SAE"]
    rows = []
    for m in MODELS:
        attention = 1 - m.flops(m.blocks, 0) / m.reading
        evaluating = evaluation_flops(m, sae_of(m, 8), SPLICE_TOKENS["gpu"])
        rows.append(
            [
                m.name,
                amount(m.parameters, "").strip(),
                f"block {m.blocks} of {m.layers}",
                amount(m.reading, "FLOP"),
                f"{number(100 * attention)} %",
                amount(2 * m.kept, "B"),
                f"{m.activation_bytes:,} B",
                f"{m.token_bytes} B",
                f"{amount(evaluating, 'FLOP')}, {duration(evaluating / H100.forward)}",
            ]
        )
    return table(titles, rows)


def saes() -> str:
    titles = ["SAE", "latents", "parameters", "dense, a token", "sparse, a token"]
    titles += ["reading against a sparse step", "weights and moments"]
    titles += [f"{KEPT_CHECKPOINTS} checkpoints", "SAE"]
    rows = [
        [
            named(m, times),
            f"{s.latents:,}",
            amount(s.parameters, "").strip(),
            amount(s.dense, "FLOP"),
            amount(s.sparse, "FLOP"),
            f"{number(m.reading / s.sparse)} : 1",
            amount(s.checkpoint_bytes, "B"),
            amount(KEPT_CHECKPOINTS * s.checkpoint_bytes, "B"),
            amount(4 * s.parameters, "B"),
        ]
        for m, times, s in pairs()
    ]
    return table(titles, rows)


def memory() -> str:
    titles = ["GB on each GPU", "1 GPU", "8 GPUs", "64 GPUs", "1 GPU, all of it in the cache"]
    titles += ["least H100s, H200s"]
    rows = []
    for m, times, s in pairs():
        of = [device_bytes(m, s, ranks) / 1e9 for ranks in (1, 8, 64)]
        cached = device_bytes(m, s, reads_model=False) / 1e9
        least = ", ".join(str(least_gpus(m, s, machine) or "none") for machine in (H100, H200))
        rows.append([named(m, times), *map(number, [*of, cached]), least])
    return table(titles, rows)


def least_gpus(model: Model, sae: Sae, machine: Machine) -> int | None:
    """So many of one host's GPUs hold the run; None where eight do not suffice."""
    counts = (1, 2, 4, 8)
    return next((n for n in counts if device_bytes(model, sae, n) <= machine.capacity), None)


def network() -> str:
    titles = ["a step of 4,096 tokens", "GPUs", "reconstruction", "candidates of TopK"]
    titles += ["activations", "over NVLink", "between hosts", "reading and step"]
    rows = []
    for m in MODELS:
        s = sae_of(m, 32)
        for ranks in (8, 64):
            e = Exchange.of(s, ranks)
            work = reading_seconds(m, s.batch, H200, ranks) + step_seconds(s, H200, ranks)
            rows.append(
                [
                    named(m, 32),
                    str(ranks),
                    *(amount(n, "B") for n in (e.reconstruction, e.candidates, e.activations)),
                    duration(e.bytes / H200.link) if ranks == 8 else "",
                    duration(e.bytes / ACROSS.link),
                    duration(work),
                ]
            )
    return table(titles, rows)


def seconds() -> str:
    titles = ["a billion tokens", "2 cores", "1 H100", "1 H200", "8 H200, one run"]
    titles += ["64 H200, one run *", "8 H200, eight runs", "64 H200, 64 runs"]
    rows = []
    for m, times, s in pairs():
        cells = [duration(BUDGET * token_seconds(m, s, CPU))]
        for machine, ranks in ((H100, 1), (H200, 1), (H200, 8), (ACROSS, 64)):
            cells.append(_time_or_no_room(m, s, machine, ranks))
        cells += [_at_once(m, s, n) for n in (8, 64)]
        rows.append([named(m, times), *cells])
    return table(titles, rows)


def _time_or_no_room(m: Model, s: Sae, machine: Machine, ranks: int) -> str:
    if device_bytes(m, s, ranks) > machine.capacity:
        return "no room"
    return duration(BUDGET * token_seconds(m, s, machine, ranks))


def _at_once(m: Model, s: Sae, gpus: int) -> str:
    """As many runs as GPUs, each on as few as hold it."""
    each = least_gpus(m, s, H200)
    assert each is not None
    return duration(each * BUDGET * token_seconds(m, s, H200, each))


def budgets() -> str:
    titles = [
        "GPU-hours of H200",
        "100 million tokens",
        "1 billion",
        "4 billion",
        "of them reading",
    ]
    rows = []
    for m, times, s in pairs():
        each = least_gpus(m, s, H200) or 8
        of_token = token_seconds(m, s, H200, each) * each / 3600
        reading = reading_seconds(m, 1, H200) / 3600
        rows.append(
            [
                named(m, times) + (f", {each} GPUs" if each > 1 else ""),
                *(number(b * of_token) for b in BUDGETS),
                f"{number(100 * reading / of_token)} %",
            ]
        )
    return table(titles, rows)


def sweep() -> str:
    titles = [
        f"{SWEEP} runs of a billion tokens, 64 H200",
        "each reads for itself: GPU-hours, wall",
    ]
    titles += [
        "through the cache: GPU-hours, wall",
        "its size",
        "bandwidth all want, at full speed",
    ]
    titles += ["to be no slower than reading", "one pass feeds all *: GPU-hours"]
    rows = []
    for m, times, s in pairs():
        each = least_gpus(m, s, H200) or 8
        at_once, own = 64 // each, BUDGET * token_seconds(m, s, H200, each)
        waves, later = math.ceil(SWEEP / at_once), math.ceil((SWEEP - 1) / at_once)
        step = alone_seconds(s, each) / s.batch
        wanted = at_once * m.activation_bytes / step
        shared = BUDGET * max(step, at_once * m.activation_bytes / FILE_SYSTEM)
        once = reading_seconds(m, BUDGET, H200) + SWEEP * BUDGET * step * each
        rows.append(
            [
                named(m, times),
                f"{number(SWEEP * own * each / 3600)}, {duration(waves * own)}",
                f"{number(each * (own + (SWEEP - 1) * shared) / 3600)}, "
                f"{duration(own + later * shared)}",
                amount(BUDGET * m.activation_bytes, "B"),
                amount(wanted, "B/s"),
                amount(at_once * m.activation_bytes * BUDGET / own, "B/s"),
                number(once / 3600),
            ]
        )
    return table(titles, rows)


def alone_seconds(s: Sae, ranks: int, machine: Machine = H200) -> float:
    """Of a step whose activations lie in the cache, with what its ranks exchange."""
    exchanged = Exchange.of(s, ranks).bytes / machine.link if ranks > 1 else 0.0
    return step_seconds(s, machine, ranks) + exchanged


def storage() -> str:
    titles = ["one run on an H200", "filling the cache", "reading it at full speed", "break-even"]
    titles += ["H200-hours in a TB", "tokens in the default 50 GB"]
    titles += ["checkpoint, every", "writing checkpoints, 64 runs"]
    rows = []
    for m, times, s in pairs():
        each = least_gpus(m, s, H200) or 8
        of_token = token_seconds(m, s, H200, each)
        every = checkpoint_seconds(m, s, H200, each)
        rows.append(
            [
                named(m, times),
                amount(m.activation_bytes / of_token, "B/s"),
                amount(m.activation_bytes * s.batch / alone_seconds(s, each), "B/s"),
                amount(break_even_bandwidth(m, H200), "B/s"),
                number(gpu_hours_in(m, H200, 1e12)),
                amount(DEFAULT_CACHE / m.activation_bytes, "").strip(),
                f"{amount(s.checkpoint_bytes, 'B')}, {duration(every)}",
                amount(64 / each * s.checkpoint_bytes / every, "B/s"),
            ]
        )
    return table(titles, rows)


def checkpoint_seconds(
    m: Model, s: Sae, machine: Machine, ranks: int = 1, steps: int = DEFAULT_INTERVAL
) -> float:
    return steps * s.batch * token_seconds(m, s, machine, ranks)


def intervals() -> str:
    titles = ["one run on H200s", "10,000 steps, the default", "lost by an interruption"]
    titles += ["1,000 steps, the least", "lost", "writing one", "Young's interval, host of 720 h"]
    rows = []
    for m, times, s in pairs():
        each = least_gpus(m, s, H200) or 8
        default = checkpoint_seconds(m, s, H200, each)
        rows.append(
            [
                named(m, times),
                duration(default),
                duration(default / 2),
                duration(default / 10),
                duration(default / 20),
                duration(s.checkpoint_bytes / WRITING),
                duration(best_interval(SAVING * s.checkpoint_bytes / 1.02e9, HOST_MTBF)),
            ]
        )
    return table(titles, rows)


def control() -> str:
    titles = ["runs at once", "transactions a second", "Redis messages a second"]
    titles += ["points of the database, a billion tokens each", "its size in SQLite"]
    titles += ["events a second to a page of all", "seconds of a web process a second, 10 pages"]
    points = BUDGET / 4096 / LOG_INTERVAL
    rows = [
        [
            str(n),
            f"≤ {WRITES * n}",
            f"≤ {PUBLISHED * n}",
            f"{points * n:,.0f}",
            amount(points * n * POINT_BYTES, "B"),
            f"≤ {WRITES * n}",
            f"≤ {number(10 * PAGE_SECONDS * min(1, WRITES * n))}",
        ]
        for n in (1, 8, 64)
    ]
    return table(titles, rows)


def predicted() -> str:
    titles = ["", "predicted", "measured", "ratio", "what is known of the difference"]
    rows = [
        [
            c.what,
            f"{number(c.predicted)} {c.unit}",
            f"{number(c.measured)} {c.unit}",
            f"{c.ratio:.2f}",
            c.why,
        ]
        for c in checks()
    ]
    return table(titles, rows)


def narrow() -> str:
    """A run on eight GPUs of which two read, because a chunk has no more passes."""
    titles = ["a billion tokens on 8 H200", "all read", "two read"]
    rows = []
    for m, times, s in pairs():
        all_read = token_seconds(m, s, H200, 8)
        longer = reading_seconds(m, 1, H200, 2) - reading_seconds(m, 1, H200, 8)
        of_both = [duration(BUDGET * t) for t in (all_read, all_read + longer)]
        rows.append([named(m, times), *of_both])
    return table(titles, rows)


def buffer() -> str:
    titles = [
        "GPUs of a run",
        "least `buffer_tokens` for all to read",
        "held of an 8B",
        "held of a 70B",
    ]
    titles += [f"GPUs that read at the default of {BUFFER_TOKENS:,}"]
    rows = [
        [
            str(n),
            f"{buffer_tokens(n):,}",
            *(amount(buffer_tokens(n) * m.activation_bytes, "B") for m in MODELS[1:]),
            str(min(n, BUFFER_TOKENS // FORWARD_TOKENS["gpu"])),
        ]
        for n in (1, 2, 4, 8, 64)
    ]
    return table(titles, rows)
