"""What is told before the start is what the run then takes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engine.test_process import ENVIRONMENT
from workers.engine.config import CacheSpec, RunSpec

MakeSpec = Callable[..., RunSpec]


# A process begins with its starter's peak, so a small one stands between the tests and the engine.
STARTER = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
"""


def engine(spec: RunSpec, folder: Path, *words: str) -> tuple[list[dict[str, Any]], int]:
    """The engine's events and the most bytes that were resident."""
    spec.write(folder)
    command = [sys.executable, "-m", "workers.engine", *words, str(folder)]
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        subprocess.run(
            [sys.executable, "-c", STARTER, *command],
            stdout=out,
            stderr=err,
            env=ENVIRONMENT,
            check=True,
        )
    *lines, peak = (folder / "out").read_text().splitlines()
    return [json.loads(line) for line in lines], int(peak)


def on_a_wider_model(spec: RunSpec, folder: Path, width: int) -> RunSpec:
    """The same run on a model with the same tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shutil.copytree(spec.model_path, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = LlamaConfig.from_pretrained(folder, hidden_size=width, head_dim=width // 4)
    LlamaForCausalLM(config).save_pretrained(folder)
    return spec.model_copy(update={"model_path": folder})


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts in KiB on Linux")
@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        # Batches and buffers large enough to count beside the libraries.
        ("standard", {"latent_dim": 1024, "batch_size": 8192, "top_k_sparsity": 1.0}),
        pytest.param(
            "transcoder",
            {"latent_dim": 1024, "batch_size": 8192, "top_k_sparsity": 1.0},
            marks=pytest.mark.long,
        ),
        pytest.param(
            "crosscoder",
            {"latent_dim": 1024, "batch_size": 8192, "layers": (1, 2, 3), "target_l0": 8},
            marks=pytest.mark.long,
        ),
        # A state, and with it a checkpoint, larger than all else that a step needs.
        pytest.param(
            "skip",
            {"width": 512, "latent_dim": 16_384, "batch_size": 512},
            marks=pytest.mark.long,
        ),
    ],
)
def test_the_memory_told_is_within_15_percent_of_the_peak(
    make_spec: MakeSpec, tmp_path: Path, architecture: str, changes: dict[str, Any]
) -> None:
    wide = changes.get("width")
    # So often that some step surely runs while a checkpoint is written.
    usual = {"num_steps": 10, "buffer_tokens": 40_000, "checkpoint_interval": 2}
    spec = make_spec(architecture, **usual | {k: v for k, v in changes.items() if k != "width"})
    if wide:
        spec = on_a_wider_model(spec, tmp_path / "model", wide)
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


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells it in /proc")
def test_a_large_process_that_starts_the_engine_does_not_count(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    (alone,), _ = engine(make_spec("standard"), tmp_path / "alone", "--rehearse")
    spec = make_spec("standard")
    spec.write(tmp_path / "run")
    starter = (
        "import subprocess, sys\n"
        "held = bytearray(2**30); held[::4096] = b'x' * 2**18\n"
        "subprocess.run(sys.argv[1:])"
    )
    words = [sys.executable, "-m", "workers.engine", "--rehearse", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-c", starter, *words],
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
        check=True,
    )
    told = json.loads(done.stdout)
    assert told["memory_bytes"] < 2**30
    assert told["memory_bytes"] == pytest.approx(alone["memory_bytes"], rel=0.15)


@pytest.mark.long
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
