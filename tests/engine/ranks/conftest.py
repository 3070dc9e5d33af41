"""Every kind of SAE trained on one rank, on two and on four; one start of torchrun for each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from workers.engine.config import CacheSpec, RunSpec
from workers.engine.train import train

ROOT = Path(__file__).resolve().parents[3]
# Latents that neither two nor four ranks share evenly in every case; chunks of three groups, so
# that one rank of four has nothing to read.
SMALL: dict[str, Any] = {
    "latent_dim": 130,
    "num_steps": 30,
    "log_interval": 5,
    "buffer_tokens": 12_300,
    "checkpoint_interval": 20,
    "dtype": "float32",
    "dead_window_tokens": 2000,
}
# Latents that are rare are called dead, so that there are some.
RARE = {"dead_neuron_threshold": 0.1}
# Half of the latents are active at first; these fall so far that the sparse step takes over.
SPARSE = {"l1_alpha": 0.1, "learning_rate": 0.02, "lr_warmup_steps": 0, "sparsity_warmup_steps": 0}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "standard": ("standard", {}),
    "resampled": ("standard", {"resample_steps": 12} | RARE | SPARSE),
    "jumprelu": ("jumprelu", {"target_l0": 8.0, "resample_steps": 12} | RARE),
    "skip": ("skip", {}),
    "learned": ("skip", {"skip": "learned", "normalize_activations": "layer_norm"}),
    "transcoder": ("transcoder", {}),
    "topk": ("standard", {"top_k_sparsity": 3.0} | RARE),
    "transcoder_topk": ("transcoder", {"top_k_sparsity": 3.0}),
    "batchtopk": ("batchtopk", {"target_l0": 6.0} | RARE),
    "matryoshka": ("matryoshka", {"target_l0": 6.0} | RARE),
    "gated": ("gated", SPARSE),
    "p_annealed": ("p_annealed", SPARSE | {"final_p": 0.8, "l1_alpha": 0.07}),
    "crosscoder": ("crosscoder", {"layers": (1, 2, 3), "resample_steps": 12} | RARE),
    "crosscoder_topk": ("crosscoder", {"layers": (1, 3), "top_k_sparsity": 3.0} | RARE),
    "moments": ("standard", {"moments_dtype": "bfloat16"}),
}


@dataclass
class Outcome:
    """What a run has left; `events` of the first rank, `others` those of the rest."""

    folder: Path
    events: list[dict[str, Any]]
    others: list[list[dict[str, Any]]] = field(default_factory=list)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoints" / "step-000020"

    @property
    def points(self) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == "progress"]


@dataclass(frozen=True)
class Asked:
    """A run, and who is asked to end it after which step."""

    spec: RunSpec
    wish: tuple[str, int, int] | None = None


Trained = dict[int, dict[str, Outcome]]


@pytest.fixture(scope="session")
def trained(spec_of: Callable[..., RunSpec], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """All outcomes, by the number of ranks and the name of the run."""
    runs = {name: Asked(spec_of(kind, **SMALL | h)) for name, (kind, h) in KINDS.items()}
    four = tmp_path_factory.mktemp("four")
    two, one = tmp_path_factory.mktemp("two"), tmp_path_factory.mktemp("one")

    def goes_on(name: str, *checkpoints: Path) -> Asked:
        kind, h = KINDS[name]
        return Asked(spec_of(kind, checkpoints, **SMALL | h))

    found: Trained = {4: torchrun(4, four, runs)}
    cache = CacheSpec(folder=two / "cache", limit_bytes=10**9)
    cached = runs["standard"].spec.model_copy(update={"cache": cache})
    topk, jump = (found[4][name].checkpoint for name in ("topk", "jumprelu"))
    more = {
        "four_to_two": goes_on("topk", topk),
        "zz_two_again": goes_on("topk", two / "topk" / "checkpoints" / "step-000020"),
        "jump_four_to_two": goes_on("jumprelu", jump),
        "stopped": Asked(runs["standard"].spec, ("stop", 1, 10)),
        "paused": Asked(runs["standard"].spec, ("pause", 1, 10)),
        "cache_filled": Asked(cached),
        "cache_read": Asked(cached),
    }
    found[2] = torchrun(2, two, runs | more)
    back = goes_on("topk", found[2]["four_to_two"].folder / "checkpoints" / "step-000030")
    start = goes_on("topk", found[2]["topk"].checkpoint)
    found[1] = {
        name: Outcome(one / name, [event.to_dict() for event in train(asked.spec, one / name)])
        for name, asked in (runs | {"from_the_end": back, "two_to_one": start}).items()
    }
    return found


def torchrun(count: int, folder: Path, runs: dict[str, Asked]) -> dict[str, Outcome]:
    for name, asked in runs.items():
        asked.spec.write(folder / name)
        if asked.wish:
            (folder / name / "asked.json").write_text(json.dumps(asked.wish))
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(count), "-m", "tests.engine.ranks.together", str(folder)),
        ],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    return {name: _outcome(folder / name, count) for name in runs}


def _outcome(folder: Path, count: int) -> Outcome:
    events = [json.loads((folder / f"events-{n}.json").read_text()) for n in range(count)]
    return Outcome(folder, events[0], events[1:])
