"""What docs/performance.md measured, beside what the arithmetic says of the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from arithmetic import (
    Sae,
    evaluation_flops,
    host_bytes,
    reading_seconds,
    step_seconds,
    token_seconds,
)
from hardware import CPU, CPU_MODEL, CPU_SAE, GEMMA_2B, GPU_SAE, H100, SMOLLM2

# A process with the engine imported (298.6 MB, 2026-11-26), and what language models' libraries
# take once loaded (`_LIBRARIES` in workers/engine/preflight.py).
LIBRARIES = 299e6 + 310e6
# Starting a process and loading SmolLM2-135M (docs/performance.md, *Work over an SAE*).
START = 10.0
# A chunk that was just written and is read from the page cache of a local disk, bytes a second.
LOCAL_DISK = 2e9
DEMO_MODEL, DEMO_SAE = SMOLLM2.up_to(4), Sae(576, 4608, active=46, batch=512)


@dataclass(frozen=True)
class Check:
    """One figure twice; `why` says what the arithmetic leaves out where it is off."""

    what: str
    predicted: float
    measured: float
    unit: str
    why: str = ""

    @property
    def ratio(self) -> float:
        return self.predicted / self.measured


def checks() -> Iterator[Check]:
    yield from _on_gpu()
    yield from _on_cpu()
    yield from _whole()
    yield from _sizes()


def _on_gpu() -> Iterator[Check]:
    caches = "caches may hold more of the rows than is allowed for"
    launches = "listing pairs took 0.66 ms, more than is counted"
    for active, measured, why in (
        (32, 4.43, launches),
        (64, 4.65, launches),
        (128, 6.16, ""),
        (256, 7.98, ""),
        (512, 11.83, caches),
    ):
        seconds = step_seconds(replace(GPU_SAE, active=active), H100)
        yield Check(f"H100: sparse step, L0 {active}", 1e3 * seconds, measured, "ms", why)
    dense = step_seconds(GPU_SAE, H100, dense=True)
    yield Check(
        "H100: dense step, L0 9,215", 1e3 * dense, 7.57, "ms", "passes between the products"
    )
    reading = 1 / reading_seconds(GEMMA_2B, 1, H100)
    yield Check("H100: reading", reading, 159_430, "tokens/s", "fitted to the bare model")
    both = 1 / token_seconds(GEMMA_2B, GPU_SAE, H100)
    yield Check("H100: reading and training together", both, 133_511, "tokens/s")


def _on_cpu() -> Iterator[Check]:
    for name, active, measured in (("TopK 32", 32, 257), ("L0 59", 59, 256)):
        seconds = step_seconds(replace(CPU_SAE, active=active), CPU)
        yield Check(f"2 cores: sparse step, {name}", 1e3 * seconds, measured, "ms")
    dense = step_seconds(CPU_SAE, CPU, dense=True)
    yield Check("2 cores: dense step", 1e3 * dense, 1180, "ms", "passes between the products")
    yield Check("2 cores: step at its start, L0 2,306", 1e3 * dense, 1046, "ms")
    reading = 1 / reading_seconds(CPU_MODEL, 1, CPU)
    yield Check("2 cores: reading", reading, 1941, "tokens/s", "fitted to the bare model")
    both = 1 / token_seconds(CPU_MODEL, CPU_SAE, CPU)
    why = "not explained; reading and step, each as measured alone, would give 1,730"
    yield Check("2 cores: a run, reading and training", both, 1233, "tokens/s", why)


def _whole() -> Iterator[Check]:
    seconds = START + 1000 * DEMO_SAE.batch * token_seconds(DEMO_MODEL, DEMO_SAE, CPU)
    other = "another processor, with AVX-512; its speed varied by a factor of two that day"
    yield Check("the demo, loading to exported SAE", seconds, 250, "s", other)
    evaluating = evaluation_flops(DEMO_MODEL, DEMO_SAE, 8128, 32_895) / CPU.forward
    quicker = "another processor, with AVX-512 and nothing beside"
    yield Check("evaluating the demo's SAE", START + evaluating, 68, "s", quicker)
    of_token = DEMO_MODEL.reading + 2 * DEMO_SAE.width * DEMO_SAE.latents
    collecting = 261_120 * of_token / CPU.forward
    yield Check("collecting its features", START + collecting, 95, "s", quicker)
    stored = DEMO_MODEL.activation_bytes * DEMO_SAE.batch / LOCAL_DISK
    step = step_seconds(DEMO_SAE, CPU)
    why = "the disk is an assumption"
    yield Check("reading from the cache, of a run", 100 * stored / (stored + step), 0.4, "%", why)
    computed = reading_seconds(DEMO_MODEL, DEMO_SAE.batch, CPU)
    share = 100 * computed / (computed + step)
    yield Check("reading by the model, of the same run", share, 70, "%")


def _sizes() -> Iterator[Check]:
    yield Check("checkpoint, 4,608 latents of 576", CPU_SAE.checkpoint_bytes / 1e6, 64, "MB")
    yield Check("checkpoint, 18,432 latents of 2,304", GPU_SAE.checkpoint_bytes / 1e9, 1.02, "GB")
    peak = host_bytes(CPU_MODEL, replace(CPU_SAE, active=46), LIBRARIES)
    why = "what allocators keep; the engine's own reckoning has 1,308"
    yield Check("memory of a run on 2 cores at its peak", peak / 1e6, 1443, "MB", why)
