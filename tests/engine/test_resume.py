"""A run that was cut off and resumed is, bit for bit, the run that was not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from workers.engine import events
from workers.engine.config import RunSpec
from workers.engine.train import train

MakeSpec = Callable[..., RunSpec]
STEPS, EVERY = 47, 9

RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "standard with a controller": ("standard", {"target_l0": 12, "sparsity_warmup_steps": 5}),
    "jumprelu": ("jumprelu", {}),
    "jumprelu with a controller": ("jumprelu", {"target_l0": 12, "resample_steps": 8}),
    "skip under layer norm": ("skip", {"normalize_activations": "layer_norm"}),
    "learned skip with resampling": ("skip", {"skip": "learned", "resample_steps": 8}),
    "learned skip of an mlp": (
        "skip",
        {"skip": "learned", "hook": "mlp_in", "top_k_sparsity": 2.0, "moments_dtype": "bfloat16"},
    ),
    "transcoder with resampling": ("transcoder", {"resample_steps": 8}),
    "transcoder of an mlp": ("transcoder", {"hook": "mlp_in", "top_k_sparsity": 2.0}),
    "topk with dead latents": ("standard", {"top_k_sparsity": 2.0}),
    "batchtopk with dead latents": ("batchtopk", {"target_l0": 3}),
    "matryoshka with dead latents": ("matryoshka", {"target_l0": 3}),
    "gated with a controller": ("gated", {"target_l0": 12, "resample_steps": 8}),
    "p-annealed with a controller": ("p_annealed", {"target_l0": 12, "resample_steps": 8}),
    "crosscoder with a controller": ("crosscoder", {"target_l0": 12, "resample_steps": 8}),
    "crosscoder under layer norm with dead latents": (
        "crosscoder",
        {"layers": (1, 2, 3), "top_k_sparsity": 2.0, "normalize_activations": "layer_norm"},
    ),
    "batchtopk with resampling": ("batchtopk", {"target_l0": 3, "resample_steps": 8}),
}


def abandon_after(step: int, spec: RunSpec, run_dir: Path) -> None:
    """As a power cut would: nothing is told, nothing is saved."""
    for event in train(spec, run_dir):
        if isinstance(event, events.Progress) and event.step >= step:
            return
    raise AssertionError("the run ended by itself")


@pytest.mark.parametrize("name", RUNS)
def test_resumed_is_never_interrupted(make_spec: MakeSpec, tmp_path: Path, name: str) -> None:
    architecture, own = RUNS[name]
    h = own | {
        "num_steps": STEPS,
        "checkpoint_interval": EVERY,
        "log_interval": 5,  # no divisor of the above: windows are cut by checkpoints
        "dead_window_tokens": 1024,
    }
    whole = list(train(make_spec(architecture, **h), tmp_path / "whole"))
    abandon_after(30, make_spec(architecture, **h), tmp_path / "cut")
    newest = tmp_path / "cut" / "checkpoints" / "step-000027"
    again = list(train(make_spec(architecture, (newest,), **h), tmp_path / "again"))

    (started,) = [e for e in again if isinstance(e, events.Started)]
    assert started.resumed_from == 27
    final = f"checkpoints/step-{STEPS:06d}/tensors.safetensors"
    expected, found = (load_file(tmp_path / r / final) for r in ("whole", "again"))
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key
    assert metrics(again) == metrics(whole)[-len(metrics(again)) :]


def metrics(found: list[events.Event]) -> list[tuple[Any, ...]]:
    """Of every point what does not depend on the clock."""
    return [
        (e.step, e.loss, e.l0, e.l1, e.fvu, e.dead_neurons, e.coefficient, e.learning_rate)
        for e in found
        if isinstance(e, events.Progress)
    ]


def test_the_first_checkpoint_that_verifies_is_taken_and_harmed_ones_are_set_aside(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    h = {"num_steps": 20, "checkpoint_interval": 10}
    list(train(make_spec("standard", **h), tmp_path / "first"))
    old, new = (tmp_path / "first" / "checkpoints" / f"step-0000{n}" for n in (10, 20))
    damaged = bytearray((new / "tensors.safetensors").read_bytes())
    damaged[-5] ^= 1
    (new / "tensors.safetensors").write_bytes(damaged)
    found = list(train(make_spec("standard", (new, old), **h), tmp_path / "second"))
    (aside,) = [e for e in found if isinstance(e, events.CheckpointSetAside)]
    assert aside.checkpoint_path == str(new)
    assert aside.reason == "tensors.safetensors is not what the manifest says"
    assert aside.moved_to == f"{new}.harmed"
    assert Path(aside.moved_to).is_dir()
    assert not new.exists()
    (started,) = [e for e in found if isinstance(e, events.Started)]
    assert started.resumed_from == 10


def test_a_checkpoint_of_another_configuration_is_not_used(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    list(train(make_spec("standard", num_steps=10), tmp_path / "first"))
    other = tmp_path / "first" / "checkpoints" / "step-000010"
    found = list(train(make_spec("standard", (other,), num_steps=12), tmp_path / "second"))
    (warned,) = [e for e in found if isinstance(e, events.Warned)]
    assert "another configuration" in warned.message
    (started,) = [e for e in found if isinstance(e, events.Started)]
    assert started.resumed_from is None


def test_a_run_resumed_at_its_end_only_evaluates_and_exports(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    first = list(train(make_spec("standard", num_steps=10), tmp_path / "first"))[-1]
    last = tmp_path / "first" / "checkpoints" / "step-000010"
    again = list(train(make_spec("standard", (last,), num_steps=10), tmp_path / "second"))
    ended = again[-1]
    assert isinstance(first, events.Completed)
    assert isinstance(ended, events.Completed)
    assert not [e for e in again if isinstance(e, events.Progress)]
    assert ended.evaluation == first.evaluation
    assert ended.final_loss == first.final_loss


def test_a_resumed_run_multiplies_in_the_checkpoints_number_format(
    make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settle(dtype: torch.dtype) -> None:
        monkeypatch.setattr("workers.engine.fit.settled_dtype", lambda *_: dtype)

    h = {"num_steps": 20, "checkpoint_interval": 10}
    settle(torch.bfloat16)
    whole = list(train(make_spec("standard", **h), tmp_path / "whole"))
    settle(torch.float32)
    middle = tmp_path / "whole" / "checkpoints" / "step-000010"
    again = list(train(make_spec("standard", (middle,), **h), tmp_path / "again"))
    (started,) = [e for e in again if isinstance(e, events.Started)]
    assert started.dtype == "bfloat16"
    assert metrics(again) == metrics(whole)[-len(metrics(again)) :]
