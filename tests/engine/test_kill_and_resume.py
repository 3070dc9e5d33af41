"""Killed anywhere, a run goes on from what lies on the disk and ends with the very same bits."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import signal
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from workers.engine import checkpoint, crash
from workers.engine.config import RunSpec
from workers.engine.run import sentence
from workers.engine.train import train

MakeSpec = Callable[..., RunSpec]
Event = dict[str, Any]

# A server that has imported everything and computed nothing: its forks start at once, and are
# processes of their own for a signal.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(
    ["workers.engine.train", "transformers.models.llama.modeling_llama"]
)

LAST = "9"  # the attempt that ends a run
SMALL = {
    "num_steps": 47,
    "checkpoint_interval": 9,
    "log_interval": 5,  # no divisor of the above: windows are cut by checkpoints
    "dead_window_tokens": 1024,
}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "standard": ("standard", {"target_l0": 12, "sparsity_warmup_steps": 5}),
    "standard, top k": ("standard", {"top_k_sparsity": 2.0}),
    "jumprelu": ("jumprelu", {"target_l0": 12}),
    "jumprelu, top k": ("jumprelu", {"top_k_sparsity": 2.0}),
    "skip": ("skip", {"normalize_activations": "layer_norm"}),
    "skip, top k": ("skip", {"top_k_sparsity": 2.0}),
    "transcoder": ("transcoder", {"resample_steps": 8}),
    "transcoder, top k": ("transcoder", {"top_k_sparsity": 2.0}),
    "batchtopk": ("batchtopk", {"target_l0": 3}),
    "matryoshka": ("matryoshka", {"target_l0": 3}),
    "gated": ("gated", {"target_l0": 12}),
    "p-annealed": ("p_annealed", {}),
}


class Engine:
    """One attempt in a process of its own."""

    def __init__(
        self,
        spec: RunSpec,
        run_dir: Path,
        crash_at: str = "",
        prepare: Callable[[], None] | None = None,
    ) -> None:
        """`prepare` is called in the process before it trains."""
        self._pipe, theirs = _processes.Pipe(duplex=False)
        self._process = _processes.Process(
            target=_attempt, args=(spec, run_dir, theirs, crash_at, prepare), daemon=True
        )
        self._process.start()
        theirs.close()
        self.events: list[Event] = []

    def hear(self) -> Event | None:
        """The next event; None once the process is gone."""
        try:
            self.events.append(self._pipe.recv())
        except EOFError:
            self._process.join()
            return None
        return self.events[-1]

    def end(self) -> int:
        """Listen to the end; the exit code, minus the signal that killed it."""
        while self.hear():
            pass
        return self._process.exitcode or 0

    def kill(self) -> None:
        self._process.kill()
        assert self.end() == -signal.SIGKILL


def _attempt(
    spec: RunSpec,
    run_dir: Path,
    pipe: Connection,
    crash_at: str,
    prepare: Callable[[], None] | None,
) -> None:
    import torch

    torch.set_num_threads(1)
    os.environ[crash.VARIABLE] = crash_at
    if prepare is not None:
        prepare()
    try:
        for event in train(spec, run_dir):
            pipe.send(event.to_dict())
    except OSError as error:
        pipe.send({"event": "failed", "error": sentence(error)})


def limit_files(size: int) -> None:
    """Python ignores the signal that goes with it, and the write fails as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def newest_first(run_dir: Path) -> tuple[Path, ...]:
    """As the rows of a run would name them, whatever process left them."""
    found = run_dir.glob("*/checkpoints/step-??????")
    return tuple(sorted(found, key=lambda folder: folder.name, reverse=True))


def finish(make_spec: MakeSpec, run: str, run_dir: Path) -> list[Event]:
    """Resume what lies in `run_dir` to its end; the events."""
    architecture, own = RUNS[run]
    spec = make_spec(architecture, newest_first(run_dir), **SMALL | own)
    engine = Engine(spec, run_dir / LAST)
    assert engine.end() == 0, engine.events[-1]
    assert engine.events[-1]["event"] == "completed", engine.events[-1]
    return engine.events


def start(make_spec: MakeSpec, run: str, folder: Path, **kwargs: Any) -> Engine:
    architecture, own = RUNS[run]
    resume_from = newest_first(folder.parent)
    return Engine(make_spec(architecture, resume_from, **SMALL | own), folder, **kwargs)


def result(run_dir: Path) -> dict[str, bytes]:
    """The files that hold every bit of the outcome: SAE, weights, moments, counters."""
    last = newest_first(run_dir)[0]
    assert last.name == "step-000047"
    (sae,) = run_dir.glob(f"{LAST}/sae/sae_weights.safetensors")
    files = [sae, last / "tensors.safetensors"]
    return {file.name: file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """Results of runs nobody interrupted, filled as they are needed."""
    return {}


def check(
    make_spec: MakeSpec, run: str, run_dir: Path, unbroken: dict[str, dict[str, bytes]]
) -> list[Event]:
    """Finish the run and compare it with one that was never broken; the events of the last part."""
    if run not in unbroken:
        whole = run_dir.parent / "whole"
        finish(make_spec, run, whole)
        unbroken[run] = result(whole)
    found = finish(make_spec, run, run_dir)
    assert result(run_dir) == unbroken[run]
    return found


# With TopK too, by `make test-long`: which way latents are chosen changes nothing here.
@pytest.mark.parametrize(
    "run", [pytest.param(run, marks=pytest.mark.long if "top k" in run else ()) for run in RUNS]
)
def test_killed_at_random_points_the_result_is_the_same_to_the_last_bit(
    make_spec: MakeSpec, tmp_path: Path, unbroken: dict[str, dict[str, bytes]], run: str
) -> None:
    rng = random.Random(run)
    for attempt in range(1, 4):
        engine = start(make_spec, run, tmp_path / "run" / f"{attempt}")
        for _ in range(rng.randint(3, 9)):
            if not engine.hear():
                break
        engine.kill() if engine.events[-1]["event"] != "completed" else engine.end()
    check(make_spec, run, tmp_path / "run", unbroken)


@pytest.mark.parametrize("place", crash.POINTS)
def test_killed_at_every_named_point_the_result_is_the_same_to_the_last_bit(
    make_spec: MakeSpec, tmp_path: Path, unbroken: dict[str, dict[str, bytes]], place: str
) -> None:
    time = 1 if place.startswith("export") else 3
    engine = start(make_spec, "jumprelu", tmp_path / "run" / "1", crash_at=f"{place}:{time}")
    assert engine.end() == -signal.SIGKILL
    found = check(make_spec, "jumprelu", tmp_path / "run", unbroken)
    (started,) = [event for event in found if event["event"] == "started"]
    expected = {"export.written": 47, "export.renamed": 47, "checkpoint.renamed": 27}
    assert started["resumed_from"] == expected.get(place, 18)
    left = [folder.name for folder in (tmp_path / "run" / "1" / "checkpoints").iterdir()]
    assert not [name for name in left if name.endswith(".tmp")]


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def zero(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x10
    file.write_bytes(data)


@pytest.mark.parametrize("harm", [truncate, zero, flip])
@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "manifest.json"])
def test_a_harmed_newest_checkpoint_costs_one_interval_and_no_bit(
    make_spec: MakeSpec,
    tmp_path: Path,
    unbroken: dict[str, dict[str, bytes]],
    harm: Callable[[Path], None],
    name: str,
) -> None:
    engine = start(make_spec, "standard", tmp_path / "run" / "1", crash_at="checkpoint.begun:4")
    assert engine.end() == -signal.SIGKILL
    newest = newest_first(tmp_path / "run")[0]
    harm(newest / name)
    found = check(make_spec, "standard", tmp_path / "run", unbroken)
    (aside,) = [event for event in found if event["event"] == "checkpoint_set_aside"]
    assert (aside["checkpoint_path"], aside["moved_to"]) == (str(newest), f"{newest}.harmed")
    (started,) = [event for event in found if event["event"] == "started"]
    assert started["resumed_from"] == 18


def test_a_full_disk_fails_the_run_with_the_reason_and_keeps_the_last_checkpoint(
    make_spec: MakeSpec, tmp_path: Path, unbroken: dict[str, dict[str, bytes]]
) -> None:
    first = start(make_spec, "standard", tmp_path / "run" / "1", crash_at="checkpoint.begun:2")
    assert first.end() == -signal.SIGKILL
    (intact,) = newest_first(tmp_path / "run")
    size = (intact / "tensors.safetensors").stat().st_size
    full = start(
        make_spec, "standard", tmp_path / "run" / "2", prepare=partial(limit_files, size // 2)
    )
    assert full.end() == 0
    assert full.events[-1] == {
        "event": "failed",
        "error": "The disk is full; free some space and resume the training.",
    }
    assert newest_first(tmp_path / "run") == (intact,)
    assert list((tmp_path / "run" / "2" / "checkpoints").iterdir()) == []
    checkpoint.load(intact)
    check(make_spec, "standard", tmp_path / "run", unbroken)
