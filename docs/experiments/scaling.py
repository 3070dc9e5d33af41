"""Writes the tables of docs/scaling.md into it: bytes, operations and seconds of runs.

    make scaling

Plain arithmetic and two seeded simulations, half a minute on one core: the same page each time. The
text between the tables is written by hand.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import simulated
import tables
from arithmetic import break_even_bandwidth, device_bytes, reading_seconds, token_seconds
from hardware import CPU, GPU_PEAK, H100, H200, LLAMA_8B, LLAMA_70B, MODELS, sae_of, utilisation
from measured import LIBRARIES, LOCAL_DISK
from words import amount, duration, table

PAGE = Path(__file__).resolve().parents[1] / "scaling.md"
_TABLE = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


_CONCLUSIONS = """\
- **Reading the model is what costs.** Of an 8× SAE's time on an H200 it is {share_8b} for the 8B
and {share_70b} for the 70B. A billion tokens take {hours[0]}, {hours[1]} and {hours[2]} on one H200
for the three models. Buy operations per second, and let no two runs read the same layer where that
can be had.
- **Memory decides between H100 and H200.** Every GPU of a run holds the model up to its layer, also
where the SAE is split: {kept} for the 70B, {held} with an 8× SAE and the rest. One H200 does; on an
H100 a run that is not split leaves what is too much to the worker's other GPUs or to the host's
memory, from where it is copied for each pass (*not yet measured*, nor in the tables below). Up to
the 8B with 32× an H100 is nearly as good; and from a complete cache, which needs no model, it
trains the 70B's 8× SAE too.
- **Many runs, one GPU each, waste nothing.** Split one over the GPUs of a host where it has no room
otherwise, or where one result has to come soon. Then raise `buffer_tokens` to 32,768 for each GPU:
at the default only two of them read.
- **One run over several hosts is not offered, and not missed**: eight hosts are for eight or more
runs.
- **The cache pays where the file system gives each run on a GPU more than** {at_rest[0]},
{at_rest[1]} and {at_rest[2]} for the three models. A sweep of 64 runs on 64 GPUs needs {sweep[1]}
of one file system for the 8B, {sweep[2]} for the 70B; with less, each run reads for itself faster.
- **Set `checkpoint_interval` by time.** The default of 10,000 steps is {interval} of a 70B run,
half of which an interruption loses on average. Aim at a quarter of an hour: 1,000 steps there.
- **Database, Redis and sweeper are far from any limit** at 64 runs; open pages come first. Give the
web a process for every ten people who look.
- **To evaluate a 70B's SAE in its model takes all of it**, {whole}, which no GPU here holds: its
worker wants a second GPU, or room in the host's memory (*not yet measured*). With
`SAESTUDIO_EVALUATE=0` the metrics of the end of the run remain."""


def conclusions() -> str:
    """What follows, with its figures."""
    small, middle, large = (token_seconds(m, sae_of(m, 8), H200) for m in MODELS)
    at_rest = [break_even_bandwidth(m, H200) for m in MODELS]
    said = _CONCLUSIONS.format(
        share_8b=f"{100 * reading_seconds(LLAMA_8B, 1, H200) / middle:.0f} %",
        share_70b=f"{100 * reading_seconds(LLAMA_70B, 1, H200) / large:.0f} %",
        hours=[duration(tables.BUDGET * one) for one in (small, middle, large)],
        kept=amount(2 * LLAMA_70B.kept, "B"),
        held=amount(device_bytes(LLAMA_70B, sae_of(LLAMA_70B, 8)), "B"),
        at_rest=[amount(one, "B/s") for one in at_rest],
        sweep=[amount(tables.SWEEP * one, "B/s") for one in at_rest],
        interval=duration(tables.checkpoint_seconds(LLAMA_70B, sae_of(LLAMA_70B, 8), H200)),
        whole=amount(2 * LLAMA_70B.parameters, "B"),
    )
    return "\n".join(
        textwrap.fill(bullet, 116, subsequent_indent="  ", break_on_hyphens=False)
        for bullet in re.split(r"\n(?=- )", said)
    )


def assumptions() -> str:
    fitted = "docs/performance.md"
    rows = [
        ["contexts", "256 tokens", "the studio's default; longer ones add to attention alone"],
        ["batch, K, moments", "4,096, 64, float32", "defaults; K as in docs/performance.md"],
        [
            "2 cores: products, forward passes",
            f"{amount(CPU.products, 'FLOP/s')}, {amount(CPU.forward, 'FLOP/s')}",
            f"fitted: the floor of a step (168 ms), the bare model (2,108 tokens/s) in {fitted}",
        ],
        ["2 cores: memory", amount(CPU.memory, "B/s"), "assumed for two cores of a server"],
        [
            "H100 SXM, H200 SXM at most",
            f"{amount(GPU_PEAK, 'FLOP/s')} bfloat16; 3.35 and 4.8 TB/s; 80 and 141 GB",
            "NVIDIA's data sheets",
        ],
        [
            "of it reached by products and passes over memory",
            f"{100 * utilisation():.0f} %",
            f"fitted: the floor of a step on the H100 (1.90 ms) in {fitted}",
        ],
        [
            "of it reached by forward passes",
            f"{100 * H100.forward / GPU_PEAK:.0f} %",
            f"fitted: the bare model of Gemma 2 2B's shape in {fitted}; "
            "less is likely for the 135M, more for the 70B",
        ],
        [
            "rows gathered by latent",
            "all of the data sheet's bandwidth",
            "caches hold part of them",
        ],
        ["launching a step", "2.4 ms at least", f"measured, {fitted}"],
        ["H200", "as the H100, with its own memory", "assumed; not yet measured"],
        ["NVLink; between hosts", "450 GB/s; 50 GB/s a GPU", "data sheets: NVLink 4; 400 Gb/s"],
        [
            "shared file system",
            f"{amount(tables.FILE_SYSTEM, 'B/s')}",
            "assumed: a small parallel one",
        ],
        ["local disk, just written", amount(LOCAL_DISK, "B/s"), "assumed"],
        [
            "process and libraries",
            amount(LIBRARIES, "B"),
            "299 MB measured 2026-11-26 after importing the engine; 310 MB in `preflight.py`",
        ],
        ["the training stands still for a checkpoint", "20 ms a GB", f"measured, {fitted}"],
        [
            "writing it beside the training",
            amount(tables.WRITING, "B/s"),
            f"measured on 2 cores, {fitted}",
        ],
        [
            "hosts fail",
            "every 720 h; every 24 h",
            "assumed: an ageing host; one that may be taken away. *The Llama 3 Herd of Models* has "
            "419 unexpected interruptions of 16,384 H100s in 54 days: 6,300 h for a host of eight",
        ],
        ["runs", "4 h on average, exponential; arrivals at random", "assumed"],
        ["lease; sweeper", "60 s; 30 s", "`trainings/models/lease.py`, `workers/sweeper.py`"],
        [
            "a point in SQLite",
            f"{tables.POINT_BYTES} bytes with its three indices",
            "measured 2026-11-26 with 100,000 rows",
        ],
        ["a page of 20 cards", "102 ms", f"measured, {fitted} (PostgreSQL)"],
    ]
    return table(["what", "value", "source"], rows)


TABLES: dict[str, Callable[[], str]] = {
    "conclusions": conclusions,
    "seconds": tables.seconds,
    "budgets": tables.budgets,
    "models": tables.models,
    "saes": tables.saes,
    "memory": tables.memory,
    "buffer": tables.buffer,
    "narrow": tables.narrow,
    "network": tables.network,
    "sweep": tables.sweep,
    "storage": tables.storage,
    "file_system": simulated.file_system,
    "queue": simulated.queue,
    "intervals": tables.intervals,
    "control": tables.control,
    "predicted": tables.predicted,
    "assumptions": assumptions,
}


def filled(page: str, made: dict[str, Callable[[], str]] | None = None) -> str:
    """The page with each table between its marks made anew. Raises `KeyError` for unknown marks."""
    made = TABLES if made is None else made
    return _TABLE.sub(lambda mark: f"{mark[1]}{made[mark[2]]()}\n{mark[3]}", page)


def named_in(page: str) -> list[str]:
    """The tables that a page asks for."""
    return [mark[2] for mark in _TABLE.finditer(page)]


def main() -> None:
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{PAGE} is written.\n")


if __name__ == "__main__":
    main()
