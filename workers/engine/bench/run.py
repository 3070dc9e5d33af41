"""The whole bench, one part after the other."""

from __future__ import annotations

import datetime
import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..advance import advance
from ..language_model import LanguageModel, Site, dtype_name, settled_device, settled_dtype
from ..sae import gpu
from ..stream import Stream
from ..tokens import Tokens
from . import checkpoints, extraction, peers
from .report import OurStep, PeerStep, Report
from .roofline import Peak, peak_of, roofline_seconds
from .steps import Floor, Runner, cases
from .timing import Times, in_turns

_BATCHES = 4
_SYNTHETIC_WIDTH = 576


@dataclass(frozen=True)
class Options:
    """What to measure. Without a model the activations are made up."""

    model_path: Path | None = None
    tokens_path: Path | None = None
    layer: int = 0
    batch_size: int = 4096
    d_sae: int = 4608
    k: int = 32
    l0: int = 64
    rounds: int = 8
    with_peers: bool = False
    device: str = "auto"


def bench(options: Options, say: Callable[[str], None] = lambda _: None) -> Report:
    """Measure it all; `say` hears what is being measured."""
    device = settled_device(options.device)
    dtype = settled_dtype("auto", device)
    say("activations")
    source = _Real(options, device, dtype) if options.model_path else None
    batches = source.batches() if source else _synthetic(options, device)
    width = batches[0].shape[1]
    report = Report(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        machine=_machine(device, dtype),
        shape={"B": options.batch_size, "D": width, "F": options.d_sae, "K": options.k},
        activations=source.name if source else "made-up activations",
        rounds=options.rounds,
    )
    runners = {
        case.name: Runner(case, batches[0], options.d_sae, device)
        for case in cases(options.k, options.l0)
        if not (case.always_dense and gpu.usable(device))  # there the kernels choose by themselves
    }
    floor = Floor(batches[0], options.d_sae, device)
    say("steps")
    times = in_turns({"floor": floor, **runners}, batches, options.rounds, device)
    _write_steps(report, runners, times, options)
    say("checkpoints")
    # On the disk of the data, where there are any: that of a run is there too.
    beside = options.tokens_path.parent if options.tokens_path else None
    with tempfile.TemporaryDirectory(dir=beside, prefix="bench-") as folder:
        runner = runners[f"standard, top {options.k}"]
        report.checkpoints = checkpoints.measure(runner, batches, options.rounds, Path(folder))
    peak = peak_of(device)
    if peak:
        _write_roofline(report, peak)
    if options.with_peers:
        _write_peers(report, runners, batches, options, device, say)
    if source:
        say("extraction")
        _write_extraction(report, source, runners, times, options)
    return report


def _write_steps(
    report: Report, runners: dict[str, Runner], times: dict[str, Times], options: Options
) -> None:
    report.floor_milliseconds = 1000 * times["floor"].median
    for name, runner in runners.items():
        report.steps.append(
            OurStep(
                name=name,
                kind=runner.case.kind,
                tokens_per_second=options.batch_size / times[name].median,
                milliseconds=1000 * times[name].median,
                best_milliseconds=1000 * times[name].best,
                l0=runner.l0(),
                floor_percent=100 / times["floor"].ratio(times[name]),
            )
        )
    sparse = f"standard, L0 {options.l0}"
    if f"{sparse}, dense" in times:
        report.sparse_over_dense = times[sparse].ratio(times[f"{sparse}, dense"])


def _write_roofline(report: Report, peak: Peak) -> None:
    B, D, F = (report.shape[name] for name in "BDF")
    least = 1000 * roofline_seconds(peak, B, D, F)
    report.roofline_milliseconds = least
    report.steps = [
        replace(step, roofline_percent=100 * least / step.milliseconds) for step in report.steps
    ]


def _write_peers(
    report: Report,
    runners: dict[str, Runner],
    batches: list[Tensor],
    options: Options,
    device: torch.device,
    say: Callable[[str], None],
) -> None:
    """One library at a time beside ours, so that memory holds few weights at once."""
    installed = peers.versions()
    report.peers_missing = [library for library in peers.PACKAGES if library not in installed]
    for library, version in installed.items():
        say(library)
        width = batches[0].shape[1]
        theirs = peers.steps(library, width, options.d_sae, options.k, device)
        kinds = {kind for kind, _ in theirs}
        ours = {
            name: runner
            for name, runner in runners.items()
            if runner.case.kind in kinds and not runner.case.always_dense
        }
        named = {f"{kind} {dtype}": step for (kind, dtype), step in theirs.items()}
        times = in_turns({**ours, **named}, batches, options.rounds, device)
        for kind, dtype in theirs:
            found = times[f"{kind} {dtype}"]
            report.peers.append(
                PeerStep(
                    library=library,
                    version=version,
                    kind=kind,
                    dtype=dtype,
                    tokens_per_second=options.batch_size / found.median,
                    milliseconds=1000 * found.median,
                    ratios={
                        name: times[name].ratio(found)
                        for name, runner in ours.items()
                        if runner.case.kind == kind
                    },
                )
            )


def _write_extraction(
    report: Report,
    source: _Real,
    runners: dict[str, Runner],
    times: dict[str, Times],
    options: Options,
) -> None:
    batch_size = options.batch_size
    found = extraction.measure(
        source.model, source.tokens, source.device, batch_size, 2 * batch_size, 3
    )
    name = f"standard, top {options.k}"
    per_batch = batch_size / found.tokens_per_second + times[name].median
    report.extraction = found
    report.hand_over_percent = 100 * found.hand_over_seconds / per_batch
    runner = runners[name]
    report.end_to_end_tokens_per_second = extraction.end_to_end(
        source.stream(),
        lambda batch: advance(runner.state, runner.plan, batch),
        source.device,
        uncounted=4,
        steps=8,
    )


class _Real:
    """Activations of a prepared model over prepared tokens."""

    def __init__(self, options: Options, device: torch.device, dtype: torch.dtype) -> None:
        assert options.model_path is not None
        assert options.tokens_path is not None
        self._options, self.device = options, device
        self.tokens = Tokens.open(options.tokens_path)
        site = Site(options.layer, "resid_post")
        self.model = LanguageModel.load(options.model_path, (site,), device, dtype)
        self.name = f"{options.model_path.name}, layer {options.layer}"

    def stream(self) -> Stream:
        size = self._options.batch_size
        return extraction.stream_of(self.model, self.tokens, self.device, size, 4 * size)

    def batches(self) -> list[Tensor]:
        stream = self.stream()
        return [stream.next().x for _ in range(_BATCHES)]


def _synthetic(options: Options, device: torch.device) -> list[Tensor]:
    """Tokens that are sums of few of many directions, off the origin, with noise."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(4 * _SYNTHETIC_WIDTH, _SYNTHETIC_WIDTH, generator=generator)
    mean = 3 * torch.randn(_SYNTHETIC_WIDTH, generator=generator)
    batches = []
    for _ in range(_BATCHES):
        shape = (options.batch_size, len(directions))
        chosen = torch.rand(shape, generator=generator) < 16 / len(directions)
        amount = torch.rand(shape, generator=generator) * chosen
        noise = torch.randn(options.batch_size, _SYNTHETIC_WIDTH, generator=generator)
        batches.append((amount @ directions + mean + 0.1 * noise).to(device))
    return batches


def _machine(device: torch.device, dtype: torch.dtype) -> dict[str, str | int]:
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{_processor()}, {len(os.sched_getaffinity(0))} cores"
    return {"device": name, "dtype": dtype_name(dtype), "torch": f"PyTorch {torch.__version__}"}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
