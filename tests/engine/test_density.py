"""The density histogram is told over a run, the same for one that was resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from workers.engine import events
from workers.engine.config import RunSpec
from workers.engine.train import train

MakeSpec = Callable[..., RunSpec]


def frames(spec: RunSpec, folder: Path) -> list[events.Density]:
    return [e for e in train(spec, folder) if isinstance(e, events.Density)]


def test_frames_are_even_few_and_hold_every_latent(make_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_spec("standard", top_k_sparsity=5.0, num_steps=110, log_interval=1)
    found = frames(spec, tmp_path)
    assert [frame.step for frame in found] == [*range(3, 109, 3), 110]
    for frame in found:
        assert sum(frame.density["counts"]) + frame.density["never"] == 128
        assert frame.tokens <= frame.step * 256


def test_a_resumed_run_tells_the_same(make_spec: MakeSpec, tmp_path: Path) -> None:
    h = {"num_steps": 60, "checkpoint_interval": 1000, "log_interval": 5}
    whole = frames(make_spec("standard", **h), tmp_path / "whole")
    stop_at = [False]
    first: list[events.Event] = []
    for event in train(make_spec("standard", **h), tmp_path / "a", lambda: stop_at[0]):
        first.append(event)
        stop_at[0] = stop_at[0] or (isinstance(event, events.Progress) and event.step >= 30)
    saved = [e for e in first if isinstance(e, events.CheckpointSaved)][-1]
    rest = frames(
        make_spec("standard", resume_from=(Path(saved.checkpoint_path),), **h), tmp_path / "b"
    )
    begun = [e for e in first if isinstance(e, events.Density)]
    assert begun[-1].step < rest[0].step
    assert [*begun, *rest] == whole
