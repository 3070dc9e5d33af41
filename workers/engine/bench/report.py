"""What was measured, as JSON and as a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from .checkpoints import INTERVAL, Checkpoints
from .extraction import Extraction


@dataclass(frozen=True)
class OurStep:
    """One of this engine's steps; `roofline_percent` only on a GPU whose figures are known."""

    name: str
    kind: str
    tokens_per_second: float
    milliseconds: float
    best_milliseconds: float
    l0: float
    floor_percent: float
    roofline_percent: float | None = None


@dataclass(frozen=True)
class PeerStep:
    """A library's step; `ratios` says how many times as fast each of ours of its kind is."""

    library: str
    version: str
    kind: str
    dtype: str
    tokens_per_second: float
    milliseconds: float
    ratios: dict[str, float]


@dataclass
class Report:
    """Everything of one run of the bench."""

    date: str
    machine: dict[str, Any]
    shape: dict[str, int]
    activations: str
    rounds: int
    floor_milliseconds: float = 0.0
    roofline_milliseconds: float | None = None
    steps: list[OurStep] = field(default_factory=list)
    sparse_over_dense: float | None = None
    checkpoints: Checkpoints | None = None
    peers: list[PeerStep] = field(default_factory=list)
    peers_missing: list[str] = field(default_factory=list)
    extraction: Extraction | None = None
    hand_over_percent: float | None = None
    end_to_end_tokens_per_second: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def table(report: Report) -> str:
    """For reading in a terminal."""
    shape = ", ".join(f"{name} {value:,}" for name, value in report.shape.items())
    machine = ", ".join(f"{value}" for value in report.machine.values() if value)
    lines = [f"{report.date}  {machine}", f"{report.activations}; {shape}", ""]
    lines += _grid(
        ("step", "tokens/s", "ms", "best ms", "L0", "% of floor"),
        [
            (
                step.name,
                f"{step.tokens_per_second:,.0f}",
                _short(step.milliseconds),
                _short(step.best_milliseconds),
                f"{step.l0:.1f}",
                f"{step.floor_percent:.0f}",
            )
            for step in report.steps
        ],
    )
    lines.append(f"floor (encoder product and Adam): {_short(report.floor_milliseconds)} ms")
    if report.roofline_milliseconds is not None:
        shares = "; ".join(f"{s.roofline_percent:.0f} % {s.name}" for s in report.steps)
        lines.append(f"its roofline: {report.roofline_milliseconds:.2f} ms, reached to {shares}")
    if report.sparse_over_dense:
        lines.append(f"sparse against dense: {report.sparse_over_dense:.2f} times as fast")
    if report.checkpoints:
        lines.append(_checkpoint(report.checkpoints))
    if report.peers:
        lines.append("")
        lines += _grid(
            ("library", "step", "dtype", "tokens/s", "we are faster by"),
            [
                (
                    f"{peer.library} {peer.version}",
                    peer.kind,
                    peer.dtype,
                    f"{peer.tokens_per_second:,.0f}",
                    "; ".join(f"{ratio:.2f} ({name})" for name, ratio in peer.ratios.items()),
                )
                for peer in report.peers
            ],
        )
    if report.peers_missing:
        lines.append(f"not installed: {', '.join(report.peers_missing)}")
    found = report.extraction
    if found:
        lines += [
            "",
            f"extraction: {found.tokens_per_second:,.0f} tokens/s, {found.ratio:.2f} of the bare "
            f"model's {found.bare_tokens_per_second:,.0f} (passes of {found.bare_pass_tokens:,})",
            f"hand-over to the SAE: {1000 * found.hand_over_seconds:.1f} ms a batch, "
            f"{report.hand_over_percent:.1f} % of extraction and step",
            f"end to end: {report.end_to_end_tokens_per_second:,.0f} tokens/s",
        ]
    return "\n".join(lines)


def _short(milliseconds: float) -> str:
    return f"{milliseconds:.{0 if milliseconds >= 100 else 2}f}"


def _checkpoint(found: Checkpoints) -> str:
    return (
        f"checkpoint: {1000 * found.stalled_seconds:.0f} ms stalled, "
        f"{1000 * found.beside_seconds:.0f} ms beside the training (which they slow by "
        f"{1000 * found.slowed_seconds:.0f} ms), {found.percent:.2f} % of wall time at "
        f"{INTERVAL:,} steps"
    )


def _grid(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if i < 1 or not _is_number(cell) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    ]


def _is_number(cell: str) -> bool:
    return cell.replace(",", "").replace(".", "").isdigit()
