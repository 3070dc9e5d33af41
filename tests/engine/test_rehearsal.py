"""What is told before the start is what the run then takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engine.test_process import ENVIRONMENT
from workers.engine.config import CacheSpec, RunSpec

MakeSpec = Callable[..., RunSpec]


def engine(spec: RunSpec, folder: Path, *words: str) -> tuple[list[dict[str, Any]], int]:
    """The engine's events and the most bytes that were resident."""
    spec.write(folder)
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        child = subprocess.Popen(
            [sys.executable, "-m", "workers.engine", *words, str(folder)],
            stdout=out,
            stderr=err,
            env=ENVIRONMENT,
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    lines = (folder / "out").read_text().splitlines()
    return [json.loads(line) for line in lines], usage.ru_maxrss * 1024


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts in KiB on Linux")
@pytest.mark.parametrize("architecture", ["standard", "transcoder"])
def test_the_memory_told_is_within_15_percent_of_the_peak(
    make_spec: MakeSpec, tmp_path: Path, architecture: str
) -> None:
    # Batches large enough to count beside the libraries.
    spec = make_spec(
        architecture,
        latent_dim=1024,
        batch_size=8192,
        num_steps=12,
        buffer_tokens=40_000,
        checkpoint_interval=5,
        top_k_sparsity=1.0,
    )
    told, _ = engine(spec, tmp_path / "rehearsal", "--rehearse")
    found, peak = engine(spec, tmp_path / "run")
    assert found[-1]["event"] == "completed", found[-1]
    assert told[-1]["memory_bytes"] == pytest.approx(peak, rel=0.15)
    disk = sum(file.stat().st_size for file in (tmp_path / "run").rglob("*") if file.is_file())
    assert disk <= told[-1]["disk_bytes"] * 1.01


def test_a_rehearsal_leaves_nothing_and_tells_what_is_wrong(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    (told,), _ = engine(make_spec("jumprelu"), tmp_path, "--rehearse")
    assert told["event"] == "rehearsed"
    assert told["seconds"] > 0
    assert told["gpu_memory_bytes"] is None
    assert {file.name for file in tmp_path.iterdir()} == {"run.json", "out", "err"}
    spec = make_spec("jumprelu").model_copy(update={"model_path": tmp_path / "nowhere"})
    (failed,), _ = engine(spec, tmp_path, "--rehearse")
    assert failed["error"].startswith("There is no Hugging Face model in")


def test_the_growth_of_the_cache_is_told_and_what_lies_there_is_counted(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    cache = CacheSpec(folder=tmp_path / "cache", limit_bytes=10**9)
    spec = make_spec("transcoder", cache=cache, num_steps=60, buffer_tokens=16_000)
    (told,), _ = engine(spec, tmp_path / "rehearsal", "--rehearse")
    assert told["cached_fraction"] == 0.0
    assert not cache.folder.exists()
    found, _ = engine(spec, tmp_path / "run")
    assert found[-1]["event"] == "completed", found[-1]
    grown = sum(file.stat().st_size for file in cache.folder.glob("*/*.safetensors"))
    assert told["cache_bytes"] == pytest.approx(grown, rel=0.02)
    before = sorted(cache.folder.rglob("*"))
    (again,), _ = engine(spec, tmp_path / "rehearsal", "--rehearse")
    assert (again["cached_fraction"], again["cache_bytes"]) == (1.0, 0)
    assert sorted(cache.folder.rglob("*")) == before
